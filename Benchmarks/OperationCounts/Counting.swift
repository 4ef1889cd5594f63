import CCounting
import EtcdServer
import EtcdWire
import HTTP2
import NIOCore
import NIOEmbedded
import Primitives

struct CountingError: Error, CustomStringConvertible {
  var description: String
}

/// Carries batches of requests from a client to the server, and the answers back.
final class Counting {
  private let loop = EmbeddedEventLoop()
  private let channel: EmbeddedChannel
  private let server: DetachedServer
  private let client: CountedClient
  private let batch: Int
  private var issued = 0
  private var stream: StreamID?
  /// Operations counted so far: events where watchers are counted.
  private(set) var counted = 0

  private static let objects = 4_096
  private static let watchers = 1_000

  init(directory: String, batch: Int) throws {
    self.batch = batch
    client = try CountedClient()
    server = DetachedServer(
      eventLoop: loop, front: try CountedCluster(directory: directory),
      settings: EtcdServerSettings())
    channel = EmbeddedChannel(handler: server.makeHandler(), loop: loop)
    channel.connect(to: try SocketAddress(ipAddress: "127.0.0.1", port: 1), promise: nil)
    try exchange(isCounted: false)
  }

  /// One turn of the server: it reads all that the client has written, and what it answers reaches the client.
  private func exchange(isCounted: Bool) throws {
    guard let buffer = try client.takeOutput() else { return }
    var turn = Turn(channel: channel, loop: loop, input: buffer)
    if isCounted {
      withUnsafeMutablePointer(to: &turn) { pointer in
        ccounting_run({ $0!.assumingMemoryBound(to: Turn.self).pointee.run() }, pointer)
      }
    } else {
      turn.run()
    }
    while let output = try channel.readOutbound(as: ByteBuffer.self) {
      try client.receive(output)
    }
    if client.failed > 0 { throw CountingError(description: "a request failed") }
  }

  private struct Turn {
    let channel: EmbeddedChannel
    let loop: EmbeddedEventLoop
    let input: ByteBuffer

    func run() {
      _ = try? channel.writeInbound(input)
      loop.run()
    }
  }

  // MARK: Operations

  func prepare(_ operation: MartletCounts.Operation) throws {
    for _ in 0..<(Self.objects / batch) {
      for _ in 0..<batch { client.call(Self.put, putRequest(issued % Self.objects)); issued += 1 }
      try exchange(isCounted: false)
    }
    switch operation {
    case .watch:
      for number in 0..<Self.watchers {
        var create = WatchCreateRequest()
        let message = Self.key(0).withUnsafeBytes { key in
          create.key = key
          create.watchID = Int64(number + 1)
          return WatchRequest(.create(create)).encoded()
        }
        if let stream {
          client.send(message, on: stream)
        } else {
          stream = client.call(Self.watch, message, endStream: false)
        }
      }
    case .keepAlive:
      var grant = LeaseGrantRequest()
      grant.id = 1
      grant.timeToLive = 3_600
      client.call(Self.grant, grant.encoded())
    default: break
    }
    try exchange(isCounted: false)
  }

  func run(_ operation: MartletCounts.Operation, count: Int, isCounted: Bool) throws {
    var done = 0
    while done < count {
      let before = client.answered
      for _ in 0..<batch { issue(operation) }
      try exchange(isCounted: isCounted)
      switch operation {
      case .watch: done += Self.watchers
      case .keepAlive: done += batch
      default:
        guard client.answered == before + batch else {
          throw CountingError(description: "\(client.answered - before) of \(batch) answers came")
        }
        done += batch
      }
    }
    if isCounted { counted = done }
  }

  private func issue(_ operation: MartletCounts.Operation) {
    let object = issued % Self.objects
    issued += 1
    switch operation {
    case .put: client.call(Self.put, putRequest(object))
    case .serializableGet, .linearizableGet:
      var range = RangeRequest()
      range.serializable = operation == .serializableGet
      let message = Self.key(object).withUnsafeBytes { key in
        range.key = key
        return range.encoded()
      }
      client.call(Self.range, message)
    case .txn: client.call(Self.txn, txnRequest(object))
    case .keepAlive:
      var renewal = LeaseKeepAliveRequest()
      renewal.id = 1
      if let stream {
        client.send(renewal.encoded(), on: stream)
      } else {
        stream = client.call(Self.renew, renewal.encoded(), endStream: false)
      }
    case .watch:
      // One put of the watched key in a turn, and nothing else.
      if issued % batch == 0 { client.call(Self.put, putRequest(0)) }
    }
  }

  private static let put = CountedClient.head("/etcdserverpb.KV/Put")
  private static let range = CountedClient.head("/etcdserverpb.KV/Range")
  private static let txn = CountedClient.head("/etcdserverpb.KV/Txn")
  private static let watch = CountedClient.head("/etcdserverpb.Watch/Watch")
  private static let grant = CountedClient.head("/etcdserverpb.Lease/LeaseGrant")
  private static let renew = CountedClient.head("/etcdserverpb.Lease/LeaseKeepAlive")

  private static func key(_ number: Int) -> [UInt8] {
    let digits = String(number)
    return Array("counted/objects/".utf8) + [UInt8](repeating: 0x30, count: 8 - digits.count)
      + Array(digits.utf8)
  }

  private func putRequest(_ number: Int) -> [UInt8] {
    let value = value()
    var put = PutRequest()
    return Self.key(number).withUnsafeBytes { key in
      value.withUnsafeBytes { value in
        put.key = key
        put.value = value
        return put.encoded()
      }
    }
  }

  /// What a Kubernetes API server sends to update an object: if its revision is as known, put it, else get it.
  /// "As known" is any but zero here, so the put is done.
  private func txnRequest(_ number: Int) -> [UInt8] {
    let value = value()
    var message: [UInt8] = []
    Self.key(number).withUnsafeBytes { key in
      var compare = Compare()
      compare.target = .modRevision
      compare.relation = .greater
      compare.key = key
      compare.operand = .modRevision(0)
      message.append(field: 1, message: compare)
      var put = PutRequest()
      put.key = key
      value.withUnsafeBytes { value in
        put.value = value
        message.append(field: 2, message: RequestOp(.put(put)))
      }
      var get = RangeRequest()
      get.key = key
      message.append(field: 3, message: RequestOp(.range(get)))
    }
    return message
  }

  private func value() -> [UInt8] { [UInt8](repeating: UInt8(truncatingIfNeeded: issued), count: 256) }
}
