import HTTP2
import NIOCore
import Replica

/// The services on one event loop without a port: for a program that brings the bytes itself, such as one that counts
/// what a request costs.
package final class DetachedServer {
  private let loop: ServerLoop

  /// - Parameter eventLoop: where everything happens; the caller is on it.
  package init(eventLoop: any EventLoop, front: any ReplicaFront, settings: EtcdServerSettings) {
    loop = ServerLoop(
      eventLoop: eventLoop, front: front, settings: settings, passwords: PasswordWorker())
  }

  /// The handler for a channel that carries a client's cleartext bytes. The server must outlive the channel.
  package func makeHandler() -> HTTP2Handler {
    GRPCServerConnection(
      router: EtcdMethod.router, delegate: loop,
      maxMessageSize: loop.settings.maxRequestBytes + EtcdServerLimits.messageOverheadBytes
    ).makeHandler()
  }
}
