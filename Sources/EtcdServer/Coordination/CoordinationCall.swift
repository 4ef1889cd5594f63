import EtcdProto
import HTTP2
import NIOCore
import Primitives
import SwiftProtobuf

/// A call of the lock or election service while it is under way.
///
/// # The problem
///
/// A lock may be waited for all day. What waits must cost no thread, must end when its client leaves or its lease
/// runs out, and must be subject to the same rights, limits and order as anything else that is done to the keys.
///
/// # The design
///
/// The call is made of calls of KV, Lease and Watch, as a client would make them, handed to the event loop's own
/// services past the network and with the caller's credential. Each answer is an event that takes the call a step
/// further, in a later turn of the loop; between two events there is nothing but this object.
///
///     client's stream ◀── respond / fail ── CoordinationCall ── one call at a time ──▶ ServerLoop
///                                                  ▲ ─── at most one watch stream ──────▶     │
///                                                  └──────── received, finished ◀─────────────┘
///
/// A call that its client gave up may have to clean up after itself; until it has, the loop keeps it.
class CoordinationCall: LocalCallSink {
  unowned let loop: ServerLoop
  let connection: GRPCServerConnection
  let stream: StreamID
  let method: EtcdMethod
  /// When the client will have given up, if it said so.
  let deadline: Instant?
  /// The client has its answer, or wants none any more.
  private(set) var isAnswered = false
  /// The client left before it had its answer.
  private(set) var isAbandoned = false
  /// Nothing is under way any more.
  private(set) var isOver = false

  /// What the services take for the client's connection.
  private var services: GRPCServerConnection!
  private var lastStream = StreamID(1)

  // MARK: The call under way

  private var callStream: StreamID?
  private var message: [UInt8]?
  private var continuation: ((Result<[UInt8], CallFailure>) -> Void)?

  // MARK: The watch under way

  private var watchStream: StreamID?
  private var onWatch: ((Etcdserverpb_WatchResponse) -> Void)?

  struct CallFailure: Error { var status: GRPCStatus }

  init(
    _ loop: ServerLoop, _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod
  ) {
    self.loop = loop
    self.connection = connection
    self.stream = stream
    self.method = method
    deadline = connection.deadline(of: stream)
    services = GRPCServerConnection(
      local: self, router: EtcdMethod.router, delegate: loop,
      maxMessageSize: connection.maxMessageSize)
    services.localCredential = connection.credential(of: stream)
    services.peerName = connection.peerName
  }

  // MARK: For subclasses

  /// Begins. Called once.
  func start() {}

  /// The client has left; what the call left in the store is to be taken away, and then `end` called.
  func abandon() { end() }

  /// Makes a call and goes on with its answer; without one the whole call fails, unless `onFailure` has a better
  /// idea.
  func call<Request: Message, Response: Message>(
    _ method: EtcdMethod, _ request: Request, onFailure: ((GRPCStatus) -> Void)? = nil,
    then: @escaping (Response) -> Void
  ) {
    precondition(callStream == nil, "one call at a time")
    continuation = { [unowned self] result in
      do {
        then(try Response(serializedBytes: try result.get()))
      } catch let failure as CallFailure {
        // etcd's own services know the error's text alone.
        let status = GRPCStatus(.unknown, failure.status.message)
        if let onFailure { onFailure(status) } else { fail(status) }
      } catch {
        fail(GRPCStatus(.internal, "\(error)"))
      }
    }
    do {
      let bytes: [UInt8] = try request.serializedBytes()
      let stream = nextStream()
      callStream = stream
      bytes.withUnsafeBytes {
        loop.grpc(services, unary: method.rawValue, stream: stream, message: $0)
      }
    } catch {
      finishCall(.failure(CallFailure(status: GRPCStatus(.internal, "\(error)"))))
    }
  }

  /// Watches keys; ends the watch of before.
  func watch(
    _ requests: [Etcdserverpb_WatchCreateRequest],
    then: @escaping (Etcdserverpb_WatchResponse) -> Void
  ) {
    endWatch()
    let stream = nextStream()
    watchStream = stream
    onWatch = then
    let method = EtcdMethod.watch.rawValue
    loop.grpc(services, opened: method, stream: stream, headers: HeaderBlock.empty)
    for request in requests where watchStream == stream {
      var create = Etcdserverpb_WatchRequest()
      create.createRequest = request
      guard let bytes: [UInt8] = try? create.serializedBytes() else { continue }
      bytes.withUnsafeBytes {
        loop.grpc(services, received: $0, method: method, stream: stream)
      }
    }
  }

  func endWatch() {
    guard let stream = watchStream else { return }
    watchStream = nil
    onWatch = nil
    loop.grpc(services, cancelled: stream, method: EtcdMethod.watch.rawValue)
  }

  /// Answers, and ends.
  func succeed(_ response: some Message) {
    if !isAnswered {
      isAnswered = true
      loop.respond(connection, stream, method, response)
    }
    end()
  }

  /// Answers with an error, and ends.
  func fail(_ status: GRPCStatus) {
    if !isAnswered {
      isAnswered = true
      loop.fail(connection, stream, method, status)
    }
    end()
  }

  /// A message of a call that has several answers.
  func send(_ response: some Message) {
    guard !isAnswered, let bytes: [UInt8] = try? response.serializedBytes() else { return }
    bytes.withUnsafeBytes { _ = connection.send(stream, $0) }
    loop.metrics.sentBytes &+= UInt64(bytes.count)
    loop.noteUnflushed(connection)
  }

  func end() {
    endWatch()
    // What is still under way is answered to nobody.
    callStream = nil
    continuation = nil
    isOver = true
    loop.forget(self)
  }

  // MARK: For the loop

  /// The client has left, or its time is up.
  func clientLeft() {
    guard !isAnswered else { return }
    isAnswered = true
    isAbandoned = true
    abandon()
  }

  /// The client has read what was sent to it.
  func clientCaughtUp() {
    guard let watchStream else { return }
    loop.grpc(services, writable: watchStream, method: EtcdMethod.watch.rawValue)
  }

  var isCalling: Bool { callStream != nil }

  private func nextStream() -> StreamID {
    lastStream = StreamID(lastStream.rawValue &+ 2)
    return lastStream
  }

  // MARK: LocalCallSink

  func isOpen(_ stream: StreamID) -> Bool { stream == callStream || stream == watchStream }

  /// A watch goes at the pace of the client that gets what it finds.
  func queuedBytes(on stream: StreamID) -> Int {
    isAnswered ? 0 : connection.queuedBytes(on: self.stream)
  }

  func received(_ message: [UInt8], on stream: StreamID) {
    if stream == callStream {
      self.message = message
    } else if stream == watchStream {
      later { call in
        guard stream == call.watchStream,
          let response = try? Etcdserverpb_WatchResponse(serializedBytes: message)
        else { return }
        call.onWatch?(response)
      }
    }
  }

  func finished(_ status: GRPCStatus, on stream: StreamID) {
    if stream == callStream {
      let message = message
      self.message = nil
      later { call in
        guard stream == call.callStream else { return }
        if status.code == .ok, let message {
          call.finishCall(.success(message))
        } else {
          call.finishCall(.failure(CallFailure(status: status)))
        }
      }
    } else if stream == watchStream {
      later { call in
        guard stream == call.watchStream else { return }
        call.watchStream = nil
        call.fail(status)
      }
    }
  }

  private func finishCall(_ result: Result<[UInt8], CallFailure>) {
    callStream = nil
    let continuation = continuation
    self.continuation = nil
    continuation?(result)
  }

  /// The services are in the middle of something when they answer.
  private func later(_ step: @escaping (CoordinationCall) -> Void) {
    let bound = NIOLoopBound((self, step), eventLoop: loop.eventLoop)
    loop.eventLoop.execute {
      let (call, step) = bound.value
      if !call.isOver { step(call) }
    }
  }
}
