/// Every bound of a listener, in one place.
public struct HTTPLimits: Sendable {
  /// Connections at once; more are closed as they are accepted. A cluster of 5,000 nodes keeps about
  /// two connections per node.
  public var connections = 20_000
  /// The bytes of a request's body; more is answered 413. Kubernetes' own bound is 3 MiB.
  public var requestBodyBytes = 3 << 20
  /// The bytes of a request's head on HTTP/1.1; more closes the connection. (Fixed by NIOHTTP1's
  /// parser at 80 KiB; HTTP/2 is told this value.)
  public var requestHeadBytes = 80 << 10
  /// From accepting a connection to the end of its TLS handshake.
  public var handshake: Duration = .seconds(10)
  /// From the first byte of a request to the end of its body; also how long an idle connection is
  /// kept. Go's clients drop idle connections after 90 s themselves.
  public var requestRead: Duration = .seconds(60)
  public var idle: Duration = .seconds(180)
  /// How long one piece of a response may wait for a reader that doesn't read.
  public var writeStall: Duration = .seconds(60)
  /// How long requests in flight may go on after the listener was told to stop; then they are cancelled.
  public var drain: Duration = .seconds(5)
  /// One message of a WebSocket.
  public var messageBytes = 1 << 20
  /// HTTP/2 streams at once per connection.
  public var concurrentStreams = 250

  public init() {}
}
