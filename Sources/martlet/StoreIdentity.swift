import Crypto
import Primitives
import Replica

/// Ids of a new cluster and its members, computed as etcd does, so that the same flags give the same ids.
///
/// A member's id is the first eight bytes of SHA-1 over its sorted peer URLs and the cluster token; the
/// cluster's is the same over all member ids. SHA-1 serves as a hash here, not as protection.
enum StoreIdentity {
  static func members(of configuration: StoreConfiguration) -> [ClusterMember] {
    members(of: configuration.initialCluster, token: configuration.clusterToken)
  }

  static func members(
    of cluster: [StoreConfiguration.PeerAddress], token: String
  ) -> [ClusterMember] {
    cluster.map { member in
      let urls = member.urls.map(\.url).sorted()
      return ClusterMember(
        id: memberID(peerURLs: urls, token: token), name: "", peerURLs: urls,
        clientURLs: [])
    }
  }

  static func memberID(peerURLs: [String], token: String) -> NodeID {
    NodeID(hash(Array(peerURLs.sorted().joined().utf8) + Array(token.utf8)))
  }

  static func clusterID(members: [NodeID]) -> UInt64 {
    var bytes: [UInt8] = []
    for id in members.sorted() {
      for shift in stride(from: 56, through: 0, by: -8) {
        bytes.append(UInt8(truncatingIfNeeded: id.rawValue >> UInt64(shift)))
      }
    }
    return hash(bytes)
  }

  private static func hash(_ bytes: [UInt8]) -> UInt64 {
    Insecure.SHA1.hash(data: bytes).prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
  }
}
