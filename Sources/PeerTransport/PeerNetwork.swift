import Logging
import NIOCore
import NIOPosix
import Primitives
import Replica
import Synchronization

/// The connections between this member and the others.
///
/// One event loop serves them all: the work is moving bytes, and a second thread would only add
/// wake-ups. Each member dials every other and sends on the connection that it dialled. What can't be sent
/// is dropped, as Raft expects of a network.
public final class PeerNetwork: PeerSender {
  public struct Settings: Sendable {
    public var cluster: UInt64
    public var member: NodeID
    /// Where to listen, host and port.
    public var listen: [(host: String, port: Int)]
    /// The other members and where they listen.
    public var peers: [(id: NodeID, host: String, port: Int)]
    public init(
      cluster: UInt64, member: NodeID, listen: [(host: String, port: Int)],
      peers: [(id: NodeID, host: String, port: Int)]
    ) {
      self.cluster = cluster
      self.member = member
      self.listen = listen
      self.peers = peers
    }
  }

  private let settings: Settings
  private let log: Logger
  private let loop: any EventLoop
  private let group: MultiThreadedEventLoopGroup
  /// Touched on `loop` only.
  private let peers: NIOLoopBound<Peers>
  private let listeners = Mutex<[any Channel]>([])

  private final class Peers {
    var links: [PeerLink] = []
    weak var receiver: (any PeerReceiver)?
  }

  public init(settings: Settings, log: Logger) {
    self.settings = settings
    self.log = log
    group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let loop = group.next()
    self.loop = loop
    peers = try! loop.submit { NIOLoopBound(Peers(), eventLoop: loop) }.wait()
  }

  /// Opens the listening sockets and starts dialling.
  ///
  /// - Throws: an error that names the address, if it can't be bound.
  public func start(receiver: any PeerReceiver) async throws {
    let settings = settings
    let log = log
    for address in settings.listen {
      let bootstrap = ServerBootstrap(group: group)
        .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
        .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
        .childChannelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            try channel.pipeline.syncOperations.addHandler(
              PeerAcceptor(settings: settings, receiver: receiver, log: log))
          }
        }
      do {
        let channel = try await bootstrap.bind(host: address.host, port: address.port).get()
        listeners.withLock { $0.append(channel) }
      } catch {
        throw PeerNetworkError(
          "cannot listen for peers on \(address.host):\(address.port): \(error)")
      }
    }
    try await loop.submit { [peers, loop] in
      peers.value.receiver = receiver
      peers.value.links = settings.peers.map { peer in
        PeerLink(settings: settings, peer: peer, loop: loop, receiver: receiver, log: log)
      }
      for link in peers.value.links { link.connect() }
    }.get()
  }

  public func send(_ messages: [(to: NodeID, message: PeerMessage)]) {
    loop.execute { [peers] in
      let links = peers.value.links
      for item in messages {
        for link in links where link.id == item.to { link.enqueue(item.message) }
      }
      for link in links { link.flush() }
    }
  }

  /// Closes every connection and frees the event loop.
  public func stop() async {
    for listener in listeners.withLock({ $0 }) { try? await listener.close().get() }
    try? await loop.submit { [peers] in
      for link in peers.value.links { link.stop() }
      peers.value.links = []
    }.get()
    try? await group.shutdownGracefully()
  }
}

/// Why the transport could not start.
public struct PeerNetworkError: Error, CustomStringConvertible {
  public var description: String
  init(_ description: String) { self.description = description }
}
