import NIOCore

/// Keeps, in a connection's pipeline, who its certificate says is calling.
///
/// Whoever secures connections adds it (`EtcdListener.listen(configure:)`), and sets the name when the
/// handshake has verified one.
public final class ConnectionIdentity: ChannelInboundHandler {
  public typealias InboundIn = NIOAny

  /// The certificate's common name.
  public var commonName: String?

  public init() {}
}
