import EtcdProto
import EtcdServer
import Foundation
import HTTP2
import Logging
import NIOCore
import NIOPosix
import SwiftProtobuf
import Synchronization

/// A server over a synchronous store, and a client of it.
final class World: Sendable {
  let front = SynchronousFront()
  let server: EtcdListener
  let port: Int
  private let group = MultiThreadedEventLoopGroup(numberOfThreads: 2)

  init(_ settings: EtcdServerSettings = EtcdServerSettings()) async throws {
    server = try await EtcdListener(
      front: front, settings: settings, group: group, logger: Logger(label: "test"))
    port = try await server.listen(host: "127.0.0.1", port: 0).port ?? 0
  }

  /// Runs `body` with a client, and takes everything down behind it.
  static func with(
    _ settings: EtcdServerSettings = EtcdServerSettings(),
    _ body: (World, WireClient) async throws -> Void
  ) async throws {
    let world = try await World(settings)
    let client = try await WireClient(port: world.port)
    do {
      try await body(world, client)
    } catch {
      await world.tearDown(client)
      throw error
    }
    await world.tearDown(client)
  }

  private func tearDown(_ client: WireClient) async {
    await client.close()
    await server.shutdown()
    try? await group.shutdownGracefully()
  }
}

/// A gRPC client whose calls are awaited: messages are those of the generated code, so that the
/// services are tested against another reading of the protocol than their own.
final class WireClient: GRPCClientDelegate, @unchecked Sendable {
  // Everything mutable is touched on the connection's event loop alone.
  private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  private var channel: (any Channel)!
  private var connection: GRPCClientConnection!
  private var calls: [UInt64: AsyncThrowingStream<[UInt8], any Error>.Continuation] = [:]
  private var nextTag: UInt64 = 0

  init(port: Int) async throws {
    channel = try await ClientBootstrap(group: group)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let connection = GRPCClientConnection(authority: "localhost", delegate: self)
          self.connection = connection
          try channel.pipeline.syncOperations.addHandler(connection.makeHandler())
        }
      }
      .connect(host: "127.0.0.1", port: port).get()
  }

  func close() async {
    try? await channel.close()
    try? await group.shutdownGracefully()
  }

  /// A streaming call: what is sent, and what comes.
  struct Call: Sendable {
    fileprivate let client: WireClient
    fileprivate let stream: StreamID
    let messages: AsyncThrowingStream<[UInt8], any Error>

    func send(_ message: some Message & Sendable) async throws {
      let bytes: [UInt8] = try message.serializedBytes()
      try await client.channel.eventLoop.submit {
        _ = bytes.withUnsafeBytes { client.connection.send(stream, $0) }
        client.connection.flush()
      }.get()
    }
    func endSending() async throws {
      try await client.channel.eventLoop.submit {
        client.connection.endSending(stream)
        client.connection.flush()
      }.get()
    }
    func cancel() async throws {
      try await client.channel.eventLoop.submit {
        client.connection.cancel(stream)
        client.connection.flush()
      }.get()
    }
  }

  func open(_ path: String, metadata: [HeaderField] = []) async throws -> Call {
    try await channel.eventLoop.submit {
      let (messages, continuation) = AsyncThrowingStream<[UInt8], any Error>.makeStream()
      self.nextTag += 1
      self.calls[self.nextTag] = continuation
      let head = self.connection.makeTemplate(path: path, metadata: metadata)
      guard let stream = self.connection.open(head, tag: self.nextTag) else {
        throw GRPCStatus(.unavailable, "no stream")
      }
      self.connection.flush()
      return Call(client: self, stream: stream, messages: messages)
    }.get()
  }

  /// A unary call.
  func call<Response: Message>(
    _ path: String, _ request: some Message & Sendable, _ response: Response.Type = Response.self
  ) async throws -> Response {
    let call = try await open("/etcdserverpb." + path)
    try await call.send(request)
    try await call.endSending()
    for try await message in call.messages { return try Response(serializedBytes: message) }
    throw GRPCStatus(.internal, "no response")
  }

  func grpcConnected(_ client: GRPCClientConnection) {}
  func grpc(
    _ client: GRPCClientConnection, received message: UnsafeRawBufferPointer, stream: StreamID,
    tag: UInt64
  ) {
    calls[tag]?.yield(Array(message))
  }
  func grpc(
    _ client: GRPCClientConnection, finished status: GRPCStatus, stream: StreamID, tag: UInt64
  ) {
    calls.removeValue(forKey: tag)?.finish(throwing: status.code == .ok ? nil : status)
  }
  func grpcClosed(_ client: GRPCClientConnection, error: (any Error)?) {}
}

extension WireClient {
  @discardableResult
  func put(_ key: String, _ value: String, lease: Int64 = 0) async throws
    -> Etcdserverpb_PutResponse
  {
    var request = Etcdserverpb_PutRequest()
    request.key = .init(key.utf8)
    request.value = .init(value.utf8)
    request.lease = lease
    request.prevKv = true
    return try await call("KV/Put", request)
  }

  func range(
    _ key: String, _ end: String = "",
    _ change: (inout Etcdserverpb_RangeRequest) -> Void = { _ in }
  )
    async throws -> Etcdserverpb_RangeResponse
  {
    var request = Etcdserverpb_RangeRequest()
    request.key = .init(key.utf8)
    request.rangeEnd = .init(end.utf8)
    change(&request)
    return try await call("KV/Range", request)
  }

  @discardableResult
  func delete(_ key: String) async throws -> Etcdserverpb_DeleteRangeResponse {
    var request = Etcdserverpb_DeleteRangeRequest()
    request.key = .init(key.utf8)
    return try await call("KV/DeleteRange", request)
  }

  @discardableResult
  func compact(_ revision: Int64) async throws -> Etcdserverpb_CompactionResponse {
    var request = Etcdserverpb_CompactionRequest()
    request.revision = revision
    return try await call("KV/Compact", request)
  }
}

/// A watch stream, read one response at a time.
struct WatchCall {
  let call: WireClient.Call
  private var messages: AsyncThrowingStream<[UInt8], any Error>.Iterator

  init(_ client: WireClient, metadata: [HeaderField] = []) async throws {
    call = try await client.open("/etcdserverpb.Watch/Watch", metadata: metadata)
    messages = call.messages.makeAsyncIterator()
  }

  func create(
    _ key: String, _ end: String = "",
    _ change: (inout Etcdserverpb_WatchCreateRequest) -> Void = { _ in }
  ) async throws {
    var create = Etcdserverpb_WatchCreateRequest()
    create.key = .init(key.utf8)
    create.rangeEnd = .init(end.utf8)
    change(&create)
    var request = Etcdserverpb_WatchRequest()
    request.createRequest = create
    try await call.send(request)
  }

  func cancel(_ id: Int64) async throws {
    var request = Etcdserverpb_WatchRequest()
    request.cancelRequest.watchID = id
    try await call.send(request)
  }

  func requestProgress() async throws {
    var request = Etcdserverpb_WatchRequest()
    request.progressRequest = Etcdserverpb_WatchProgressRequest()
    try await call.send(request)
  }

  mutating func next() async throws -> Etcdserverpb_WatchResponse {
    guard let message = try await messages.next() else {
      throw GRPCStatus(.internal, "the stream ended")
    }
    return try Etcdserverpb_WatchResponse(serializedBytes: message)
  }

  /// The events up to the first at or beyond `revision`, as `PUT key@revision`.
  mutating func events(through revision: Int64) async throws -> [String] {
    var lines: [String] = []
    while true {
      for event in try await next().events {
        lines.append(describe(event))
        if event.kv.modRevision >= revision { return lines }
      }
    }
  }
}

func describe(_ event: Mvccpb_Event) -> String {
  let kind = event.type == .delete ? "DELETE" : "PUT"
  let previous =
    event.hasPrevKv ? " was \(String(decoding: event.prevKv.value, as: UTF8.self))" : ""
  return
    "\(kind) \(String(decoding: event.kv.key, as: UTF8.self))@\(event.kv.modRevision)\(previous)"
}
