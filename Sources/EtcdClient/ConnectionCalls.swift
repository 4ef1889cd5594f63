import EtcdWire
import HTTP2
import NIOCore
import Primitives

/// The calls in flight on one connection. Belongs to the connection's event loop.
final class ConnectionCalls: GRPCClientDelegate {
  private enum Call {
    case unary(UnaryCall)
    case stream(StreamID, HTTP2CallStream)
  }

  private struct UnaryCall {
    var stream: StreamID
    var answer: [UInt8]?
    var timeout: Scheduled<Void>
    var complete: (Result<[UInt8], StoreError>) -> Void
  }

  private let authority: String
  private let scheme: String
  private let usability: Usability
  /// Sent with every call: a token, for instance.
  private let metadata: [HeaderField]
  private var client: GRPCClientConnection?
  private var calls: [UInt64: Call] = [:]
  private var templates: [String: HeaderTemplate] = [:]

  init(authority: String, scheme: String, usability: Usability, metadata: [HeaderField]) {
    self.authority = authority
    self.scheme = scheme
    self.usability = usability
    self.metadata = metadata
  }

  /// The handler for the channel. It keeps the gRPC connection alive, which in turn needs this object:
  /// both end with the channel.
  func makeHandler() -> HTTP2Handler {
    let client = GRPCClientConnection(
      authority: authority, scheme: scheme, delegate: self,
      maxMessageSize: HTTP2Transport.Limits.messageBytes)
    self.client = client
    return client.makeHandler()
  }

  func close() { client?.close() }

  private func template(_ method: String, _ client: GRPCClientConnection) -> HeaderTemplate {
    if let template = templates[method] { return template }
    let template = client.makeTemplate(path: method, metadata: metadata)
    templates[method] = template
    return template
  }

  // MARK: Calls

  func start(
    _ tag: UInt64, _ method: String, _ request: [UInt8], timeout: Duration,
    complete: @escaping (Result<[UInt8], StoreError>) -> Void
  ) {
    guard usability.isUsable, let client, let loop = client.handler.eventLoop else {
      complete(.failure(StoreError(.unavailable, "the connection to \(authority) is closed")))
      return
    }
    let stream = request.withUnsafeBytes {
      client.call(template(method, client), $0, timeout: timeout, tag: tag)
    }
    guard let stream else {
      complete(.failure(StoreError(.unavailable, "\(authority) takes no more calls")))
      return
    }
    let bound = NIOLoopBound(self, eventLoop: loop)
    let timer = loop.scheduleTask(
      in: .nanoseconds(Int64(clamping: timeout.wholeNanoseconds))
    ) { [authority] in
      bound.value.end(
        tag, StoreError(.unknownOutcome, "\(authority) gave no answer within \(timeout)"))
    }
    calls[tag] = .unary(UnaryCall(stream: stream, timeout: timer, complete: complete))
    client.flush()
  }

  func open(_ stream: HTTP2CallStream, _ method: String) -> Result<Void, StoreError> {
    guard usability.isUsable, let client,
      let id = client.open(template(method, client), tag: stream.tag)
    else {
      return .failure(StoreError(.unavailable, "the connection to \(authority) takes no call"))
    }
    calls[stream.tag] = .stream(id, stream)
    client.flush()
    return .success(())
  }

  func send(_ tag: UInt64, _ message: [UInt8]) -> Result<Void, StoreError> {
    guard let client, case .stream(let id, _) = calls[tag],
      message.withUnsafeBytes({ client.send(id, $0) })
    else { return .failure(StoreError(.unavailable, "the call has ended")) }
    client.flush()
    return .success(())
  }

  func finishSending(_ tag: UInt64) {
    guard let client, case .stream(let id, _) = calls[tag] else { return }
    client.endSending(id)
    client.flush()
  }

  func cancel(_ tag: UInt64) { end(tag, StoreError(.cancelled, "the call was cancelled")) }

  /// Gives up a call from this side.
  private func end(_ tag: UInt64, _ error: StoreError) {
    guard let call = calls.removeValue(forKey: tag) else { return }
    switch call {
    case .unary(let call):
      call.timeout.cancel()
      client?.cancel(call.stream)
      call.complete(.failure(error))
    case .stream(let id, let stream):
      client?.cancel(id)
      stream.finish(.failure(error))
    }
    client?.flush()
  }

  // MARK: GRPCClientDelegate

  func grpcConnected(_ client: GRPCClientConnection) {}

  func grpc(
    _ client: GRPCClientConnection, received message: UnsafeRawBufferPointer, stream: StreamID,
    tag: UInt64
  ) {
    switch calls[tag] {
    case .unary(var call):
      call.answer = Array(message)
      calls[tag] = .unary(call)
    case .stream(_, let receiver):
      if !receiver.deliver(Array(message)) {
        end(tag, StoreError(.unknownOutcome, "the call's reader is too far behind"))
      }
    case nil: break
    }
  }

  func grpc(
    _ client: GRPCClientConnection, finished status: GRPCStatus, stream: StreamID, tag: UInt64
  ) {
    guard let call = calls.removeValue(forKey: tag) else { return }
    let error = status.code == .ok ? nil : StoreError(status)
    switch call {
    case .unary(let call):
      call.timeout.cancel()
      if let error {
        call.complete(.failure(error))
      } else if let answer = call.answer {
        call.complete(.success(answer))
      } else {
        call.complete(.failure(StoreError(.malformedAnswer, "an answer without a message")))
      }
    case .stream(_, let stream):
      stream.finish(error.map { .failure($0) } ?? .success(()))
    }
  }

  func grpcAvailabilityChanged(_ client: GRPCClientConnection) {
    if client.handler.connection.isPeerGoingAway { usability.end() }
  }

  func grpcClosed(_ client: GRPCClientConnection, error: (any Error)?) {
    usability.end()
    self.client = nil
    let left = calls
    calls = [:]
    let gone = StoreError(.unknownOutcome, "the connection to \(authority) was lost")
    for call in left.values {
      switch call {
      case .unary(let call):
        call.timeout.cancel()
        call.complete(.failure(gone))
      case .stream(_, let stream): stream.finish(.failure(gone))
      }
    }
  }
}

extension StoreError {
  /// What a gRPC status means to a client of the store.
  ///
  /// "Unavailable" is the delicate one: etcd uses it both for what it surely didn't do and for what it
  /// may have done. Only the texts tell; what isn't known to be harmless counts as unknown.
  init(_ status: GRPCStatus) {
    let message = status.message
    switch status.code {
    case .unavailable:
      let isUndone = ["no leader", "not leader", "refused", "stopped", "is not capable"].contains {
        message.contains($0)
      }
      self.init(isUndone ? .unavailable : .unknownOutcome, message)
    case .deadlineExceeded: self.init(.unknownOutcome, message)
    case .outOfRange where message.contains("compacted"): self.init(.compacted, message)
    case .outOfRange where message.contains("future"): self.init(.futureRevision, message)
    case .notFound where message.contains("lease"): self.init(.leaseNotFound, message)
    case .resourceExhausted: self.init(.exhausted, message)
    case .cancelled: self.init(.cancelled, message)
    default: self.init(.refused, "\(status)")
    }
    self.status = status
  }
}
