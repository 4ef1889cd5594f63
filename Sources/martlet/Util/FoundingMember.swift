import ArgumentParser
import Primitives
import Replica

/// Which member of a new cluster a data directory is made for: flags as `etcdutl snapshot restore` has them.
struct FoundingMember: ParsableArguments {
  @Option(help: "The directory to make (default: NAME.martlet).")
  var dataDir: String?

  @Option(help: "Human-readable name of the member.")
  var name = "default"

  @Option(help: "All members of the new cluster: NAME=URL, separated by commas.")
  var initialCluster: String?

  @Option(help: "This member's peer URLs.")
  var initialAdvertisePeerUrls = "http://localhost:2380"

  @Option(help: "Tells clusters apart that are started with the same URLs.")
  var initialClusterToken = "etcd-cluster"

  /// The flags, made definite.
  struct Place {
    var directory: String
    var identity: ClusterIdentity
    var founders: [ClusterMember]
  }

  /// - Throws: `UsageFailure` where the flags contradict each other.
  func place() throws -> Place {
    let own = initialAdvertisePeerUrls.split(separator: ",").map(String.init)
    let cluster = try StoreConfiguration.parseCluster(
      initialCluster ?? own.map { "\(name)=\($0)" }.joined(separator: ","))
    guard let named = cluster.first(where: { $0.name == name }),
      Set(named.urls.map(\.url)) == Set(own)
    else {
      throw UsageFailure(
        "--initial-cluster must name this member (--name \(name)) with its "
          + "--initial-advertise-peer-urls (\(initialAdvertisePeerUrls))")
    }
    let founders = StoreIdentity.members(of: cluster, token: initialClusterToken)
    let identity = ClusterIdentity(
      cluster: StoreIdentity.clusterID(members: founders.map(\.id)),
      member: StoreIdentity.memberID(peerURLs: own, token: initialClusterToken))
    return Place(directory: dataDir ?? "\(name).martlet", identity: identity, founders: founders)
  }
}
