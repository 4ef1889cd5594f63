import HTTP2
import NIOCore
import NIOPosix
import NIOSSL

/// How the generator reaches a server: cleartext, or TLS with the authorities given.
struct ClientChannel: Sendable {
  let endpoint: Endpoint
  private let security: NIOSSLContext?

  /// A channel to each endpoint.
  ///
  /// - Throws: what is wrong with the file of authorities.
  static func all(_ options: RunOptions) throws -> [ClientChannel] {
    var security: NIOSSLContext?
    if let path = options.authorities {
      var configuration = TLSConfiguration.makeClientConfiguration()
      configuration.trustRoots = .file(path)
      // Servers that speak both versions of HTTP choose by it.
      configuration.applicationProtocols = ["h2"]
      security = try NIOSSLContext(configuration: configuration)
    }
    return options.endpoints.map { ClientChannel(endpoint: $0, security: security) }
  }

  var scheme: String { security == nil ? "http" : "https" }

  /// Opens a connection on `eventLoop` that tells `delegate` of its life.
  func open(
    on eventLoop: any EventLoop, delegate: any HTTP2Delegate & Sendable
  ) -> EventLoopFuture<Void> {
    ClientBootstrap(group: eventLoop)
      .channelOption(ChannelOptions.socketOption(.tcp_nodelay), value: 1)
      .channelOption(
        ChannelOptions.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 64 << 10)
      )
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          if let security {
            // An address is no server name; then the certificate must be good for the address.
            let isName = endpoint.host.contains { $0.isLetter && !$0.isHexDigit }
            try pipeline.addHandler(
              NIOSSLClientHandler(context: security, serverHostname: isName ? endpoint.host : nil))
          }
          try pipeline.addHandler(
            HTTP2Handler(connection: HTTP2Connection(role: .client), delegate: delegate))
        }
      }
      .connect(host: endpoint.host, port: endpoint.port)
      .map { _ in }
  }
}
