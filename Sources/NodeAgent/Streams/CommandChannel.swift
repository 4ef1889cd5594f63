import HTTPServer
import KubeAPI
import Synchronization

/// What the client of an exec or attach sends.
enum CommandInput: Sendable, Equatable {
  case bytes([UInt8])
  case ended
  case resize(columns: UInt16, rows: UInt16)

  /// Reads `{"Width":80,"Height":24}`; nil for anything else.
  init?(resize bytes: some Sequence<UInt8>) {
    guard let value = try? Value(json: Array(bytes)), let width = value["Width"].int,
      let height = value["Height"].int, let columns = UInt16(exactly: width),
      let rows = UInt16(exactly: height)
    else { return nil }
    self = .resize(columns: columns, rows: rows)
  }
}

/// The client's end of an exec or attach, whatever protocol carries it.
protocol CommandChannel: Sendable {
  /// The next thing the client sends; nil when it has gone.
  func next() async throws -> CommandInput?
  func send(_ bytes: [UInt8], isError: Bool) async throws
  /// Tells how it ended, and ends.
  func finish(_ status: Value) async
}

/// The programs' end: something that runs and has streams.
protocol RunningCommand: Sendable {
  /// Hands all output on until the command has ended.
  func pump(_ send: @escaping @Sendable ([UInt8], _ isError: Bool) async throws -> Void) async
    -> ExecEnd
  func write(_ bytes: [UInt8]) async throws
  func endInput()
  func resize(columns: UInt16, rows: UInt16)
  /// The client has gone.
  func abandon()
}

/// Connects a client with a command until the command ends or the client goes.
enum CommandBridge {
  static func run(_ command: some RunningCommand, _ channel: some CommandChannel) async {
    let input = Task {
      do {
        while let event = try await channel.next() {
          switch event {
          // A command that reads no more is not a reason to end: its output still counts.
          case .bytes(let bytes): try? await command.write(bytes)
          case .ended: command.endInput()
          case .resize(let columns, let rows): command.resize(columns: columns, rows: rows)
          }
        }
      } catch {
        // A broken connection and a closed one mean the same here.
      }
      if !Task.isCancelled { command.abandon() }
    }
    let end = await command.pump { bytes, isError in
      try await channel.send(bytes, isError: isError)
    }
    await channel.finish(status(end))
    input.cancel()
  }

  /// How a command ended, as clients expect it: they take the exit code from the cause.
  static func status(_ end: ExecEnd) -> Value {
    switch end {
    case .exited(0): return ["metadata": [:], "status": "Success"]
    case .exited(let code):
      return [
        "metadata": [:], "status": "Failure",
        "message": Value("command terminated with non-zero exit code: exit status \(code)"),
        "reason": "NonZeroExitCode",
        "details": ["causes": [["reason": "ExitCode", "message": Value("\(code)")]]],
      ]
    case .failed(let message):
      return [
        "metadata": [:], "status": "Failure",
        "message": Value(
          "Internal error occurred: error executing command in container: \(message)"),
        "reason": "InternalError",
        "details": ["causes": [["message": Value("error executing command in container: \(message)")]]],
        "code": 500,
      ]
    }
  }
}

/// Exec and attach over a WebSocket: the first byte of each message is its channel.
///
/// Source: Kubernetes, "Remote command" protocols v4 and v5 (`v5.channel.k8s.io` adds channel 255, by which
/// one half of a channel is closed).
final class WebSocketCommandChannel: CommandChannel {
  enum Number {
    static let input: UInt8 = 0
    static let output: UInt8 = 1
    static let error: UInt8 = 2
    static let status: UInt8 = 3
    static let resize: UInt8 = 4
    static let close: UInt8 = 255
  }
  /// The protocols that are spoken here, best first.
  static let protocols = ["v5.channel.k8s.io", "v4.channel.k8s.io"]

  private let stream: ByteStream
  init(_ stream: ByteStream) { self.stream = stream }

  /// Tells the client that the streams are there: an empty message on the first channel it reads.
  func begin(hasOutput: Bool, hasError: Bool) async {
    try? await stream.write([hasOutput ? Number.output : hasError ? Number.error : Number.status])
  }

  func next() async throws -> CommandInput? {
    while let message = try await stream.read() {
      switch message.first {
      case Number.input where message.count > 1: return .bytes(Array(message.dropFirst()))
      case Number.resize:
        if let event = CommandInput(resize: message.dropFirst()) { return event }
      case Number.close where message.count > 1 && message[1] == Number.input: return .ended
      default: break
      }
    }
    return nil
  }

  func send(_ bytes: [UInt8], isError: Bool) async throws {
    try await stream.write([isError ? Number.error : Number.output] + bytes)
  }

  func finish(_ status: Value) async {
    try? await stream.write([Number.status] + status.json)
    stream.close()
  }
}

/// Exec and attach over SPDY: a stream for each of them, named by a header.
final class SPDYCommandChannel: CommandChannel {
  static let protocols = [
    "v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io",
  ]

  private let connection: SPDYConnection
  private let streams: [String: UInt32]
  /// Whether the client reads the end as a Status rather than as text.
  private let takesStatus: Bool

  /// Waits until the client has opened the streams it asked for.
  ///
  /// - Returns: nil if it went before.
  init?(_ stream: ByteStream, expected: Set<String>, protocolName: String) async {
    connection = SPDYConnection(stream)
    var streams: [String: UInt32] = [:]
    while !expected.isSubset(of: streams.keys) {
      guard let event = try? await connection.next() else { return nil }
      if case .opened(let id, let headers, _) = event {
        let type = headers.first { $0.name.lowercased() == "streamtype" }?.value ?? ""
        streams[type.lowercased()] = id
        try? await connection.reply(to: id)
      }
    }
    self.streams = streams
    takesStatus = protocolName.hasPrefix("v4") || protocolName.hasPrefix("v5")
  }

  func next() async throws -> CommandInput? {
    while let event = try await connection.next() {
      switch event {
      case .data(let id, let bytes, let isLast):
        if id == streams["stdin"] {
          if bytes.isEmpty { if isLast { return .ended } else { continue } }
          if isLast { connection.unread(.data(stream: id, [], isLast: true)) }
          return .bytes(bytes)
        }
        if id == streams["resize"], let resize = CommandInput(resize: bytes) { return resize }
      case .reset(let id) where id == streams["stdin"]: return .ended
      case .goAway: return nil
      case .opened, .reset, .ping: break
      }
    }
    return nil
  }

  func send(_ bytes: [UInt8], isError: Bool) async throws {
    if let id = streams[isError ? "stderr" : "stdout"] {
      try await connection.send(SPDYWriter.data(id, bytes))
    }
  }

  func finish(_ status: Value) async {
    for name in ["stdout", "stderr"] {
      if let id = streams[name] { try? await connection.send(SPDYWriter.data(id, [], isLast: true)) }
    }
    if let id = streams["error"] {
      let isSuccess = status["status"].string == "Success"
      let text =
        takesStatus ? status.json : isSuccess ? [] : Array((status["message"].string ?? "").utf8)
      try? await connection.send(SPDYWriter.data(id, text, isLast: true))
    }
    connection.close()
  }
}

/// SPDY over a byte stream: one reader, any number of writers.
final class SPDYConnection: Sendable {
  private let stream: ByteStream
  private let reader = Mutex(SPDYReader())
  private let writer = Mutex(SPDYWriter())
  private let putBack = Mutex<SPDYEvent?>(nil)

  init(_ stream: ByteStream) { self.stream = stream }

  /// The next event, pings apart, which are answered here; nil at the end.
  func next() async throws -> SPDYEvent? {
    let back = putBack.withLock { event in
      defer { event = nil }
      return event
    }
    if let back { return back }
    while true {
      let event = try reader.withLock { (reader) throws(SPDYError) in try reader.next() }
      switch event {
      case .ping(let id)?: try await send(SPDYWriter.ping(id))
      case let event?: return event
      case nil:
        guard let bytes = try await stream.read() else { return nil }
        reader.withLock { $0.add(bytes) }
      }
    }
  }

  /// Has `next` return an event once more.
  func unread(_ event: SPDYEvent) { putBack.withLock { $0 = event } }

  func reply(to id: UInt32) async throws {
    try await send(writer.withLock { $0.reply(to: id) })
  }

  func send(_ frame: [UInt8]) async throws { try await stream.write(frame) }
  func close() { stream.close() }
}
