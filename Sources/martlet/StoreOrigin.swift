import PeerTransport
import Persistence
import Primitives
import Replica

/// Who a member is and whom it starts with: founder of a new cluster, newcomer in a running one, or one that comes
/// back.
struct StoreOrigin: Sendable {
  var identity: ClusterIdentity
  /// The members that the cluster is founded with, or has when this one joins. Of no effect on one that
  /// comes back.
  var members: [ClusterMember]
  var isJoining = false

  /// Finds out from the flags, the data directory and, for a newcomer, the running cluster.
  static func find(
    for configuration: StoreConfiguration, security: PeerNetwork.Security?
  ) async throws -> StoreOrigin {
    let founders = StoreIdentity.members(of: configuration)
    let ownURLs = configuration.ownPeerURLs
    let founded = StoreOrigin(
      identity: ClusterIdentity(
        cluster: StoreIdentity.clusterID(members: founders.map(\.id)),
        member: StoreIdentity.memberID(peerURLs: ownURLs, token: configuration.clusterToken)),
      members: founders)
    guard configuration.joinsExisting else { return founded }
    // The data says who a member is; the flags with which it joined may name members that left since.
    if let owner = try owner(of: configuration.dataDirectory) {
      return StoreOrigin(identity: owner, members: founders)
    }
    return try await join(configuration, ownURLs, security)
  }

  private static func owner(of directory: String) throws -> ClusterIdentity? {
    do {
      return try RecoveredReplica.owner(of: directory, fileSystem: LinuxFileSystem())
    } catch {
      throw StartFailure("\(error)")
    }
  }

  /// Asks the members that `--initial-cluster` names besides this one, and finds this one among them.
  private static func join(
    _ configuration: StoreConfiguration, _ ownURLs: [String], _ security: PeerNetwork.Security?
  ) async throws -> StoreOrigin {
    let others = configuration.initialCluster.filter { $0.name != configuration.name }
      .flatMap { $0.urls.map(\.url) }
    guard !others.isEmpty else {
      throw UsageFailure(
        "--initial-cluster-state is 'existing', but --initial-cluster names no member besides this one; "
          + "give the list that 'etcdctl member add' printed")
    }
    let cluster: UInt64
    let roster: ClusterRoster
    do {
      (cluster, roster) = try await PeerInquiry.ask(others, security: security)
    } catch {
      throw StartFailure("cannot join the cluster: \(error)")
    }
    let named = configuration.initialCluster.map { $0.urls.map(\.url).sorted() }
    guard named.count == roster.members.count else {
      throw StartFailure(
        "cannot join the cluster: --initial-cluster names \(named.count) members, the cluster has "
          + "\(roster.members.count): member count is unequal")
    }
    for member in roster.members where !named.contains(member.peerURLs.sorted()) {
      throw StartFailure(
        "cannot join the cluster: its member \(member.id) has the peer URLs "
          + "\(member.peerURLs.joined(separator: ",")), which --initial-cluster does not name")
    }
    if let refusal = configuration.replica.levels.refusal(of: roster.level) {
      throw StartFailure("cannot join the cluster: \(refusal)")
    }
    guard let own = roster.members.first(where: { $0.peerURLs.sorted() == ownURLs.sorted() }) else {
      throw StartFailure(
        "cannot join the cluster: it has no member with the peer URLs "
          + "\(ownURLs.joined(separator: ",")); add it first: etcdctl member add")
    }
    guard own.name.isEmpty else {
      throw StartFailure(
        "cannot join the cluster: member \(own.id) has been started before, as '\(own.name)', but the data "
          + "directory \(configuration.dataDirectory) is empty; remove the member and add it anew")
    }
    return StoreOrigin(
      identity: ClusterIdentity(cluster: cluster, member: own.id), members: roster.members,
      isJoining: true)
  }
}
