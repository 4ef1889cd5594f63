/// What `StoreClient` needs of a connection to one member: gRPC calls.
///
/// `HTTP2Transport` is the real one; tests supply one that fails on purpose.
public protocol CallTransport: Sendable {
  /// Makes a call with one request and one answer.
  ///
  /// - Parameters:
  ///   - method: such as `/etcdserverpb.KV/Range`.
  ///   - timeout: after which the call fails with `.unknownOutcome`; also sent as `grpc-timeout`.
  func call(_ method: String, _ request: [UInt8], timeout: Duration) async throws(StoreError)
    -> [UInt8]

  /// Opens a call with many requests and many answers.
  func open(_ method: String, timeout: Duration) async throws(StoreError) -> any CallStream

  /// Closes the connection; calls in flight fail.
  func close()

  /// False once the connection broke or was closed: it never becomes usable again.
  var isUsable: Bool { get }
}

/// A call with many requests and many answers.
public protocol CallStream: Sendable {
  func send(_ message: [UInt8]) async throws(StoreError)
  /// The next answer, or nil where the server ended the call with success.
  func next() async throws(StoreError) -> [UInt8]?
  func cancel()
  /// Says that no further request comes.
  func finishSending()
}

extension CallStream {
  /// For streams whose server doesn't wait for it.
  public func finishSending() {}
}
