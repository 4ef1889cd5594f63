import Logging
import NIOCore
import NIOPosix
import Primitives
import Replica
import Synchronization

/// The connections between this member and the others.
///
/// One event loop serves them all: the work is moving bytes, and a second thread would only add
/// wake-ups. Small messages don't even take that way, see `PeerOutlet`. Each member dials every other
/// and sends on the connection that it dialled. What can't be sent is dropped, as Raft expects of a
/// network.
public final class PeerNetwork: PeerSender {
  /// Adds what secures a connection to its pipeline, before all else, on its event loop.
  public struct Security: Sendable {
    /// - Returns: whether the connection is encrypted now.
    public typealias Step = @Sendable (
      _ channel: any Channel, _ host: String, _ port: Int
    ) throws -> Bool
    /// For a connection accepted on the address given.
    public var accepted: Step
    /// For a connection to the address given.
    public var dialled: Step
    public init(accepted: @escaping Step, dialled: @escaping Step) {
      self.accepted = accepted
      self.dialled = dialled
    }
  }

  public struct Settings: Sendable {
    public var cluster: UInt64
    public var member: NodeID
    /// Where to listen, host and port.
    public var listen: [(host: String, port: Int)]
    /// All members at the start, this one included, and where they listen.
    public var roster: ClusterRoster
    /// Nil for connections in the clear.
    public var security: Security?
    public init(
      cluster: UInt64, member: NodeID, listen: [(host: String, port: Int)], roster: ClusterRoster,
      security: Security? = nil
    ) {
      self.security = security
      self.cluster = cluster
      self.member = member
      self.listen = listen
      self.roster = roster
    }
  }

  private let settings: Settings
  private let directory: PeerDirectory
  private let log: Logger
  private let loop: any EventLoop
  /// The group made for `loop`; nil where the loop is somebody else's.
  private let ownGroup: MultiThreadedEventLoopGroup?
  /// Touched on `loop` only.
  private let peers: NIOLoopBound<Peers>
  /// The ways out to the members there are now.
  private let outlets = Mutex<[(id: NodeID, outlet: PeerOutlet)]>([])
  private let listeners = Mutex<[any Channel]>([])
  private let meters = Mutex<[NodeID: PeerMeter]>([:])

  public var traffic: [PeerTraffic] {
    meters.withLock { $0.values.map(\.current) }.sorted { $0.peer < $1.peer }
  }

  private func meter(of peer: NodeID) -> PeerMeter {
    meters.withLock { meters in
      if let meter = meters[peer] { return meter }
      let meter = PeerMeter(peer)
      meters[peer] = meter
      return meter
    }
  }

  private final class Peers {
    var links: [PeerLink] = []
    weak var receiver: (any PeerReceiver)?
  }

  /// - Parameter eventLoop: the loop to use, which must outlive the network; nil makes one.
  public init(settings: Settings, eventLoop: (any EventLoop)? = nil, log: Logger) {
    self.settings = settings
    directory = PeerDirectory(settings.roster)
    self.log = log
    ownGroup = eventLoop == nil ? MultiThreadedEventLoopGroup(numberOfThreads: 1) : nil
    let loop = eventLoop ?? ownGroup!.next()
    self.loop = loop
    peers = try! loop.submit { NIOLoopBound(Peers(), eventLoop: loop) }.wait()
  }

  /// Opens the listening sockets and starts dialling.
  ///
  /// - Throws: an error that names the address, if it can't be bound.
  public func start(receiver: any PeerReceiver) async throws {
    let settings = settings
    let directory = directory
    let log = log
    for address in settings.listen {
      let bootstrap = ServerBootstrap(group: loop)
        .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
        .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
        .childChannelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            _ = try settings.security?.accepted(channel, address.host, address.port)
            try channel.pipeline.syncOperations.addHandler(
              PeerAcceptor(
                settings: settings, directory: directory, receiver: receiver,
                meter: { [self] in meter(of: $0) }, log: log
              ) { [weak self] in self?.adoptIntroduced() })
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
    try await loop.submit { [self] in
      peers.value.receiver = receiver
      adopt(settings.roster)
    }.get()
  }

  public func update(_ roster: ClusterRoster) {
    directory.update(roster)
    loop.execute { [self] in adopt(directory.reachable) }
  }

  /// Somebody called who isn't a member as far as this one knows: it must be answered. On the loop.
  private func adoptIntroduced() { adopt(directory.reachable) }

  /// Dials the members that are new or have moved, and lets go of those that have left. On the loop.
  private func adopt(_ roster: ClusterRoster) {
    guard let receiver = peers.value.receiver else { return }
    var kept: [PeerLink] = []
    for member in roster.members where member.id != settings.member {
      guard let address = member.peerURLs.lazy.compactMap(PeerAddress.init).first else { continue }
      if let link = peers.value.links.first(where: { $0.id == member.id && $0.address == address })
      {
        kept.append(link)
        continue
      }
      let link = PeerLink(
        settings: settings, peer: member.id, address: address, meter: meter(of: member.id), loop: loop,
        directory: directory, receiver: receiver, log: log)
      kept.append(link)
      link.connect()
    }
    for link in peers.value.links where !kept.contains(where: { $0 === link }) {
      if roster.members.contains(where: { $0.id == link.id }) {
        link.stop()
      } else {
        // It should still hear that it was removed.
        kept.append(link)
        let bound = NIOLoopBound((self, link), eventLoop: loop)
        loop.scheduleTask(in: Limits.removedGrace) {
          let (network, link) = bound.value
          link.stop()
          network.keep(network.peers.value.links.filter { $0 !== link })
        }
      }
    }
    keep(kept)
  }

  private func keep(_ links: [PeerLink]) {
    let ids = Set(links.map(\.id))
    meters.withLock { $0 = $0.filter { ids.contains($0.key) } }
    peers.value.links = links
    outlets.withLock { $0 = links.map { ($0.id, $0.outlet) } }
  }

  public func send(_ messages: [(to: NodeID, message: PeerMessage)]) {
    for (id, outlet) in outlets.withLock({ $0 }) {
      let own = messages.lazy.filter { $0.to == id }.map(\.message)
      if own.isEmpty { continue }
      switch outlet.send(own) {
      case .sent: continue
      case .handOver:
        let taken = Array(own)
        handOver(to: id) { link in for message in taken { link.enqueue(message) } }
      case .handOverBytes(let rest, let connection):
        handOver(to: id) { $0.enqueue(rest: rest, of: connection) }
      }
    }
  }

  /// Lets the event loop write to `peer`.
  private func handOver(to peer: NodeID, _ enqueue: @escaping @Sendable (PeerLink) -> Void) {
    loop.execute { [peers] in
      guard let link = peers.value.links.first(where: { $0.id == peer }) else { return }
      enqueue(link)
      link.flush()
      link.outlet.finishHandOver()
    }
  }

  /// Closes every connection and frees the event loop.
  public func stop() async {
    for listener in listeners.withLock({ $0 }) { try? await listener.close().get() }
    try? await loop.submit { [peers] in
      for link in peers.value.links { link.stop() }
      peers.value.links = []
    }.get()
    try? await ownGroup?.shutdownGracefully()
  }
}

/// Why the transport could not start.
public struct PeerNetworkError: Error, CustomStringConvertible {
  public var description: String
  init(_ description: String) { self.description = description }
}
