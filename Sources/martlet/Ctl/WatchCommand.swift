import ArgumentParser
import EtcdClient
import EtcdProto
import Foundation
import HTTP2
import SwiftProtobuf

/// `martlet ctl watch`
struct WatchCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "watch", abstract: "Watch events of keys or prefixes.",
    discussion: """
      What stands behind '--' is run for each event, with ETCD_WATCH_REVISION, ETCD_WATCH_EVENT_TYPE,
      ETCD_WATCH_KEY and ETCD_WATCH_VALUE in its environment. The key may also come from ETCDCTL_WATCH_KEY, and
      the range's end from ETCDCTL_WATCH_RANGE_END.

        martlet ctl watch --prefix config/ -- ./reload
      """)

  @OptionGroup var options: CtlOptions
  @OptionGroup var request: WatchArguments
  @Flag(name: [.short, .long], help: "Take 'watch ...' and 'progress' from standard input.")
  var interactive = false

  func run() async throws {
    let printer = try options.printer()
    let environmentKey = CtlOptions.environment("watch-key")
    let environmentEnd = CtlOptions.environment("watch-range-end")
    guard environmentKey != nil || environmentEnd == nil else {
      throw CtlFailure.arguments(
        "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END="
          + GoText.quoted(environmentEnd ?? ""))
    }
    let ranges = [environmentKey, environmentEnd].compactMap { $0 }
    if interactive {
      let watch = CtlWatch(try await options.client(), printer)
      return try await watch.runInteractively(environment: ranges)
    }
    let watcher = try request.watcher(environment: ranges)
    let watch = CtlWatch(try await options.client(), printer)
    try await watch.add(watcher)
    try await watch.printAll()
    throw CtlFailure(.interrupted, "watch is canceled by the server")
  }
}

struct WatchArguments: ParsableArguments {
  @Argument(help: "The key or prefix, and where the range ends.")
  var arguments: [String] = []

  @Argument(parsing: .postTerminator, help: "A command for each event.")
  var command: [String] = []

  @Flag(help: "Watch on a prefix.")
  var prefix = false

  @Option(help: "Revision to start watching.")
  var rev: Int64 = 0

  @Flag(help: "Get the previous key-value pair before the event happens.")
  var prevKv = false

  @Flag(help: "Get periodic watch progress notification from server.")
  var progressNotify = false

  /// - Parameter environment: key and range end from the environment, where they are.
  func watcher(environment: [String]) throws -> CtlWatch.Watcher {
    guard environment.isEmpty || arguments.isEmpty else {
      throw CtlFailure.arguments("bad number of arguments (found conflicting environment key)")
    }
    let range = environment + arguments
    guard (1...2).contains(range.count) else {
      throw CtlFailure.arguments("bad number of arguments")
    }
    guard !(prefix && range.count == 2) else {
      throw CtlFailure.arguments("`range_end` and `--prefix` are mutually exclusive")
    }
    var request = Etcdserverpb_WatchCreateRequest()
    (request.key, request.rangeEnd) = try keyRange(range, isPrefix: prefix, isFromKey: false)
    request.startRevision = rev
    request.prevKv = prevKv
    request.progressNotify = progressNotify
    return CtlWatch.Watcher(request: request, command: command)
  }
}

/// The watchers of one stream. When it breaks, they go on, on another, behind what they have printed.
actor CtlWatch {
  struct Watcher {
    var request: Etcdserverpb_WatchCreateRequest
    /// Run for each event.
    var command: [String]
  }

  private typealias Stream = MessageStream<Etcdserverpb_WatchRequest, Etcdserverpb_WatchResponse>

  private let client: MessageClient
  private let printer: CtlPrinter
  private var watchers: [Int64: Watcher] = [:]
  private var stream: Stream?
  private var nextID: Int64 = 1
  private static let retryPause = Duration.milliseconds(200)

  init(_ client: MessageClient, _ printer: sending CtlPrinter) {
    self.client = client
    self.printer = printer
  }

  func add(_ watcher: Watcher) async throws {
    var watcher = watcher
    watcher.request.watchID = nextID
    nextID += 1
    watchers[watcher.request.watchID] = watcher
    if let stream {
      try await calling { try await stream.send(.with { $0.createRequest = watcher.request }) }
    } else {
      try await calling { try await self.open() }
    }
  }

  private func open() async throws {
    let stream: Stream = try await client.open("Watch/Watch", requiresLeader: true)
    self.stream = stream
    for watcher in watchers.values.sorted(by: { $0.request.watchID < $1.request.watchID }) {
      try await stream.send(.with { $0.createRequest = watcher.request })
    }
  }

  private func requestProgress() async throws {
    guard let stream else { return }
    try await calling {
      try await stream.send(.with { $0.progressRequest = Etcdserverpb_WatchProgressRequest() })
    }
  }

  /// Prints what comes, until no watcher is left.
  func printAll() async throws {
    while !watchers.isEmpty {
      do {
        guard let stream else {
          try await open()
          continue
        }
        guard let answer = try await stream.next() else {
          self.stream = nil
          continue
        }
        try await take(answer)
      } catch let error as StoreError {
        self.stream = nil
        // A refusal is final; a lost connection or leader isn't.
        if let status = error.status, status.code != .unavailable { throw CtlFailure(error) }
        CtlOutput.log(error.message)
        try await Task.sleep(for: Self.retryPause)
      }
    }
  }

  private func take(_ answer: Etcdserverpb_WatchResponse) async throws {
    let id = answer.watchID
    if answer.created, !answer.canceled {
      // Where a watcher begins with what is new, it must go on from there, whatever happens before.
      if watchers[id]?.request.startRevision == 0 {
        watchers[id]?.request.startRevision = answer.header.revision + 1
      }
      return
    }
    if answer.canceled {
      CtlOutput.complain("watch was canceled (\(reason(answer)))")
    } else if answer.events.isEmpty {
      CtlOutput.line("progress notify: \(answer.header.revision)")
    }
    try printer.print(answer)
    if let last = answer.events.last {
      watchers[id]?.request.startRevision = last.kv.modRevision + 1
    }
    if let command = watchers[id]?.command, !command.isEmpty {
      for event in answer.events { try run(command, for: event, answer.header.revision) }
    }
    if answer.canceled { watchers[id] = nil }
  }

  private func reason(_ answer: Etcdserverpb_WatchResponse) -> String {
    if answer.compactRevision != 0 {
      return "etcdserver: mvcc: required revision has been compacted"
    }
    if answer.cancelReason.isEmpty {
      return "etcdserver: mvcc: required revision is a future revision"
    }
    return answer.cancelReason.hasPrefix("etcdserver: ")
      ? answer.cancelReason
      : "rpc error: code = FailedPrecondition desc = \(answer.cancelReason)"
  }

  private func run(_ command: [String], for event: Mvccpb_Event, _ revision: Int64) throws {
    let environment = [
      "ETCD_WATCH_REVISION": "\(revision)",
      "ETCD_WATCH_EVENT_TYPE": GoText.quoted(event.type == .put ? "PUT" : "DELETE"),
      "ETCD_WATCH_KEY": GoText.quoted(event.kv.key),
      "ETCD_WATCH_VALUE": GoText.quoted(event.kv.value),
    ]
    let status = try CtlProcess.run(command, environment: environment)
    guard status == 0 else {
      let words = command.map { GoText.quoted($0) }.joined(separator: " ")
      CtlOutput.complain("command [\(words)] error (exit status \(status))")
      throw ExitCode(1)
    }
  }

  // MARK: Interactive

  /// Takes requests from standard input, and prints what comes of them meanwhile.
  func runInteractively(environment: [String]) async throws {
    let lines = AsyncStream<String?> { continuation in
      Thread.detachNewThread {
        while let line = readLine() { continuation.yield(line) }
        continuation.yield(nil)
      }
    }
    for await line in lines {
      guard let line else {
        throw CtlFailure(.invalidInput, "error reading watch request line: EOF")
      }
      let words = try GoText.words(line)
      switch words.first {
      case nil: CtlOutput.complain("Invalid command: \(line) (watch and progress supported)")
      case "watch":
        guard words.count > 1 || !environment.isEmpty else {
          CtlOutput.complain("Invalid command \(line) (command type or key is not provided)")
          continue
        }
        let arguments = try WatchArguments.parse(
          Array(CtlArguments.normalise(["ctl"] + words).dropFirst(2)))
        let isFirst = watchers.isEmpty
        try await add(try arguments.watcher(environment: environment))
        if isFirst { Task { try? await printAll() } }
      case "progress": try await requestProgress()
      default: CtlOutput.complain("Invalid command \(line) (only support watch)")
      }
    }
  }
}

/// Programs that commands run.
enum CtlProcess {
  /// - Returns: the exit status.
  static func run(_ command: [String], environment: [String: String]) throws -> Int32 {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = command
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    do { try process.run() } catch { throw CtlFailure(.error, "exec: \(command[0]): \(error)") }
    process.waitUntilExit()
    return process.terminationStatus
  }
}
