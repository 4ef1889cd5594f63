import EtcdServer
import Logging
import NIOCore
import NIOPosix
import PeerTransport
import Persistence
import Primitives
import Replica

#if canImport(Glibc)
  import Glibc
#endif

/// A member, put together: files, replica, connections to the others, client port.
struct StoreMember {
  private let configuration: StoreConfiguration
  private let log: Logger

  init(_ configuration: StoreConfiguration) {
    self.configuration = configuration
    LoggingSystem.bootstrap(StreamLogHandler.standardError)
    var log = Logger(label: "store")
    log.logLevel = configuration.logLevel
    self.log = log
  }

  /// Runs until SIGTERM or SIGINT.
  func run() async throws {
    try refuseForeignData()
    let tls = try StoreTLS(configuration, log: log)
    let origin = try await StoreOrigin.find(for: configuration, security: tls.peerSecurity)
    let identity = origin.identity
    let (recovered, disk) = try open(origin)
    if !recovered.isNew, let refusal = configuration.replica.levels.refusal(of: recovered.level) {
      throw StartFailure("\(refusal)")
    }
    let roster = recovered.roster
    guard !roster.removed.contains(identity.member) else {
      throw StartFailure("\(ReplicaFailure.removed)")
    }
    log.info(
      recovered.isNew ? "starting a new member" : "starting from the data directory",
      metadata: [
        "name": "\(configuration.name)", "member": "\(identity.member)",
        "cluster": "\(String(identity.cluster, radix: 16))",
        "data-dir": "\(configuration.dataDirectory)",
        "snapshot": "\(recovered.snapshotIndex)", "log-entries": "\(recovered.logEntries)",
      ])
    for notice in configuration.operation.notices {
      log.info("a flag has no effect", metadata: ["flag": "\(notice)"])
    }
    for rejected in recovered.rejected {
      log.error("a snapshot can't be used; an older one is", metadata: ["reason": "\(rejected)"])
    }

    let group = MultiThreadedEventLoopGroup(
      numberOfThreads: min(max(System.coreCount / 2, 1), StoreMember.mostEventLoops))
    // On two cores the loop of the clients serves the members as well: a reply to a lone client is then
    // written by the thread that read the acknowledgement, and more threads would not run at once anyway.
    let peerLoop = System.coreCount <= 2 ? group.next() : nil
    let network = PeerNetwork(
      settings: PeerNetwork.Settings(
        cluster: identity.cluster, member: identity.member,
        listen: configuration.listenPeers.map { ($0.host, $0.port) },
        roster: roster, security: tls.peerSecurity), eventLoop: peerLoop, log: log)
    var random = SystemRandomNumberGenerator()
    // Proposals of this life must not be taken for those of an earlier one, whose entries may still be
    // in the log: the seconds since 1970 in the upper bits tell them apart.
    let sequenceBase = UInt64(time(nil)) << 32
    let core = ReplicaCore(
      identity: identity, settings: configuration.replica, recovered: recovered,
      now: ReplicaService.now, sequenceBase: sequenceBase,
      random: RandomSource(seed: random.next()))
    let failed = AsyncStream.makeStream(of: ReplicaFailure.self)
    let log = log
    let replica = ReplicaService(
      core: core, disk: disk, sender: network,
      tokens: LoginTokens(lifetime: configuration.security.tokenLifetime),
      onWarning: { log.warning("\($0)") },
      onFailure: { failed.continuation.yield($0) })
    try await network.start(receiver: replica)

    var settings = EtcdServerSettings()
    settings.maxRequestBytes = configuration.maxRequestBytes
    settings.maxTxnOperations = configuration.maxTransactionOperations
    settings.minimumLeaseSeconds = Int64(
      (configuration.replica.electionTimeout * 3 / 2).components.seconds + 1)
    settings.watchProgressInterval = configuration.operation.watchProgressInterval
    settings.maximumStreams = configuration.operation.maximumStreams
    settings.minimumPingInterval = configuration.operation.minimumPingInterval
    settings.keepAliveInterval = configuration.operation.keepAliveInterval ?? .seconds(1 << 30)
    settings.keepAliveTimeout = configuration.operation.keepAliveTimeout
    settings.servesGateway = configuration.operation.servesGateway
    settings.authTokens = configuration.security.authTokens
    settings.bcryptCost = configuration.security.bcryptCost
    settings.namesUsersByCertificate = configuration.security.namesUsersByCertificate
    let server = try await EtcdListener(
      front: replica, settings: settings, group: group, logger: log)
    let operation = configuration.operation
    let clients: EtcdListener.Service = operation.listenHTTP.isEmpty ? .everything : .grpc
    for (endpoints, service) in [
      (configuration.listenClients, clients), (operation.listenHTTP, .http),
      (operation.listenMetrics, .metrics),
    ] {
      for endpoint in endpoints {
        do {
          try await server.listen(
            on: endpoint.socketPath.map { .unix(path: $0) }
              ?? .tcp(host: endpoint.host, port: endpoint.port),
            serving: service, configure: tls.configure(endpoint))
        } catch {
          throw StartFailure("cannot listen for clients on \(endpoint.url): \(error)")
        }
      }
    }

    let failure = await waitForEnd(failed.stream)
    let wasRemoved = failure?.description == ReplicaFailure.removed.description
    if wasRemoved {
      log.warning("stopping: \(failure!)")
    } else if let failure {
      log.critical("stopping: \(failure)")
    } else {
      log.info("stopping")
    }
    if failure == nil { await handOverLeadership(replica) }
    await server.shutdown()
    await network.stop()
    replica.stop()
    // An operator took it out: nothing is wrong with it.
    if failure != nil, !wasRemoved { throw StartFailure("the member stopped: \(failure!)") }
  }

  /// Lets another member take over before this one falls silent: nobody then waits for an election.
  private func handOverLeadership(_ replica: ReplicaService) async {
    guard replica.status.role == .leader, replica.status.members.count > 1 else { return }
    replica.handOverLeadership()
    let end = ContinuousClock.now + configuration.replica.electionTimeout
    while replica.status.role == .leader || replica.status.leader == nil, ContinuousClock.now < end
    {
      try? await Task.sleep(for: .milliseconds(5))
    }
  }

  /// Event loops beyond which more threads only add wake-ups.
  private static let mostEventLoops = 4

  private func refuseForeignData() throws {
    guard access("\(configuration.dataDirectory)/member/wal", F_OK) != 0 else {
      throw StartFailure(
        "the data directory \(configuration.dataDirectory) holds etcd's data (\"member\"), whose files "
          + "are not ours: give this member a --data-dir of its own")
    }
  }

  private func open(_ origin: StoreOrigin) throws -> (RecoveredReplica, ReplicaDisk) {
    do {
      return try RecoveredReplica.open(
        directory: configuration.dataDirectory, identity: origin.identity,
        founders: origin.members, isJoining: origin.isJoining,
        fileSystem: configuration.operation.isSynced
          ? LinuxFileSystem() : UnsyncedFileSystem(base: LinuxFileSystem()))
    } catch {
      throw StartFailure("\(error)")
    }
  }

  /// Returns when a signal asks to stop (nil) or the replica had to.
  private func waitForEnd(_ failures: AsyncStream<ReplicaFailure>) async -> ReplicaFailure? {
    await withTaskGroup(of: ReplicaFailure?.self) { group in
      group.addTask {
        for await failure in failures { return failure }
        return nil
      }
      group.addTask {
        await TerminationSignal.wait()
        return nil
      }
      let first = await group.next()
      group.cancelAll()
      return first ?? nil
    }
  }
}
