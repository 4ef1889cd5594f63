import CLinux
import Glibc
import KubeAPI

/// What an agent asks of a shim: one line of JSON each way.
///
/// | operation | further members | answer |
/// |---|---|---|
/// | `network` | `address`, `prefixLength`, `gateway` | |
/// | `start` | `container` | |
/// | `stop` | `container`, `milliseconds` until SIGKILL | |
/// | `forget` | `container` | |
/// | `attach` | `container`, `input` | from here on the connection carries frames (``AttachFrame``) |
/// | `list` | | `states`: an object from container id to state |
/// | `end` | | the last one |
///
/// Each request carries an `id`, which the answer repeats, with `error` if it failed. Between answers
/// come events, `{"event":"container","container":ID,"state":{…}}`, at every change.
enum ShimRequest: Equatable, Sendable {
  case network(address: IPv4Address, prefixLength: Int, gateway: IPv4Address)
  case start(ContainerID)
  case stop(ContainerID, milliseconds: Int64)
  case forget(ContainerID)
  case attach(ContainerID, input: Bool)
  case list
  case end

  func json(id: Int64) -> Value {
    var value: Value = ["id": Value(id)]
    switch self {
    case .network(let address, let prefixLength, let gateway):
      value["operation"] = "network"
      value["address"] = Value(address.description)
      value["prefixLength"] = Value(prefixLength)
      value["gateway"] = Value(gateway.description)
    case .start(let container):
      value["operation"] = "start"
      value["container"] = Value(container.rawValue)
    case .stop(let container, let milliseconds):
      value["operation"] = "stop"
      value["container"] = Value(container.rawValue)
      value["milliseconds"] = Value(milliseconds)
    case .forget(let container):
      value["operation"] = "forget"
      value["container"] = Value(container.rawValue)
    case .attach(let container, let input):
      value["operation"] = "attach"
      value["container"] = Value(container.rawValue)
      value["input"] = Value(input)
    case .list: value["operation"] = "list"
    case .end: value["operation"] = "end"
    }
    return value
  }

  init?(_ value: Value) {
    // An id becomes part of paths.
    let container = value["container"].string.flatMap { text in
      !text.isEmpty && text.utf8.count <= 64
        && text.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
        ? ContainerID(rawValue: text) : nil
    }
    switch (value["operation"].string, container) {
    case ("network", _):
      guard let address = value["address"].string.flatMap({ IPv4Address($0) }),
        let gateway = value["gateway"].string.flatMap({ IPv4Address($0) }),
        let length = value["prefixLength"].int, (0...32).contains(length)
      else { return nil }
      self = .network(address: address, prefixLength: length, gateway: gateway)
    case ("start", let container?): self = .start(container)
    case ("stop", let container?):
      guard let milliseconds = value["milliseconds"].integer else { return nil }
      self = .stop(container, milliseconds: milliseconds)
    case ("forget", let container?): self = .forget(container)
    case ("attach", let container?):
      self = .attach(container, input: value["input"].bool ?? false)
    case ("list", _): self = .list
    case ("end", _): self = .end
    default: return nil
    }
  }
}

extension Shim {
  /// One agent's connection.
  struct Connection {
    var input: [UInt8] = []
    var output: [UInt8] = []
    /// Set once the connection carries a container's streams.
    var attachment: Attachment?
    /// To be closed when `output` is sent.
    var isClosing = false
  }

  mutating func accept() {
    while true {
      // Above the limit the listener's own queue holds them back no longer than until one closes.
      let descriptor = clinux_accept(listenerNumber)
      if descriptor < 0 { return }
      if connections.count >= Limits.connections {
        close(descriptor)
      } else {
        connections[descriptor] = Connection()
      }
    }
  }

  mutating func serveConnection(_ descriptor: Int32) {
    var isOpen = true
    withUnsafeTemporaryAllocation(byteCount: 16 << 10, alignment: 16) { buffer in
      let count = read(descriptor, buffer.baseAddress, buffer.count)
      if count > 0 {
        connections[descriptor]?.input += UnsafeRawBufferPointer(rebasing: buffer[..<count])
      } else if count == 0 || (errno != EAGAIN && errno != EINTR) {
        isOpen = false
      }
    }
    while connections[descriptor]?.attachment == nil, let line = takeLine(descriptor) {
      answer(line, descriptor)
    }
    if connections[descriptor]?.attachment != nil { takeFrames(descriptor) }
    if !isOpen || (connections[descriptor]?.input.count ?? 0) > Limits.requestBytes {
      drop(descriptor)
    } else {
      flush(descriptor)
    }
  }

  private mutating func takeLine(_ descriptor: Int32) -> [UInt8]? {
    guard let input = connections[descriptor]?.input,
      let end = input.firstIndex(of: UInt8(ascii: "\n"))
    else { return nil }
    connections[descriptor]?.input.removeSubrange(...end)
    return Array(input[..<end])
  }

  private mutating func answer(_ line: [UInt8], _ descriptor: Int32) {
    let value = (try? Value(json: line)) ?? .null
    var reply: Value = ["id": value["id"]]
    if let request = ShimRequest(value) {
      do {
        let answer = try perform(request, descriptor)
        if !answer.isNull { reply["states"] = answer }
      } catch {
        reply["error"] = Value("\(error)")
      }
    } else {
      reply["error"] = "not a request"
    }
    send(reply, descriptor)
  }

  private mutating func perform(_ request: ShimRequest, _ descriptor: Int32) throws -> Value {
    switch request {
    case .network(let address, _, let gateway):
      guard let index = RouteSocket.index(of: "eth0") else {
        throw SystemError("find link", "eth0", number: ENODEV)
      }
      var socket = try RouteSocket()
      // Not its neighbours' block: all that a pod sends goes through the node, and so do the answers, in
      // which a service's address must be put back.
      try socket.addAddress(address, prefixLength: 32, to: index)
      try socket.setUp(index)
      if let block = IPv4Block("\(gateway)/32") { try socket.addRoute(to: block, out: index) }
      try socket.addDefaultRoute(via: gateway)
    case .start(let id): try start(id)
    case .stop(let id, let milliseconds): stop(id, milliseconds: milliseconds)
    case .forget(let id): try forget(id)
    case .attach(let id, let input): try attach(id, descriptor, input: input)
    case .list:
      var answer = Value.Object()
      for (id, state) in states.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
        answer.set(id.rawValue, to: state.json)
      }
      return .object(answer)
    case .end: end()
    }
    return .null
  }

  mutating func broadcast(_ event: Value) {
    for (descriptor, connection) in connections where connection.attachment == nil {
      send(event, descriptor)
    }
  }

  private mutating func send(_ value: Value, _ descriptor: Int32) {
    send(value.json + [UInt8(ascii: "\n")], descriptor)
  }

  mutating func send(_ bytes: [UInt8], _ descriptor: Int32) {
    connections[descriptor]?.output += bytes
    flush(descriptor)
  }

  mutating func flush(_ descriptor: Int32) {
    guard let output = connections[descriptor]?.output, !output.isEmpty else { return }
    let count = Glibc.send(descriptor, output, output.count, Int32(MSG_NOSIGNAL))
    if count > 0 {
      connections[descriptor]?.output.removeFirst(count)
    } else if count < 0, errno != EAGAIN, errno != EINTR {
      drop(descriptor)
      return
    }
    let unread = connections[descriptor]?.output.count ?? 0
    let isDone = unread == 0 && connections[descriptor]?.isClosing == true
    if isDone || unread > Limits.unreadBytes { drop(descriptor) }
  }

  mutating func drop(_ descriptor: Int32) {
    guard let connection = connections.removeValue(forKey: descriptor) else { return }
    close(descriptor)
    if let attachment = connection.attachment { detached(attachment) }
  }
}
