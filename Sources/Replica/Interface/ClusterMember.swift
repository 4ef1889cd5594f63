import Primitives

/// A member as the cluster knows it: identity from the configuration, attributes published by itself.
public struct ClusterMember: Sendable, Equatable {
  public var id: NodeID
  /// Empty until the member has started once and published itself, as in etcd.
  public var name: String
  public var peerURLs: [String]
  public var clientURLs: [String]
  public var isLearner: Bool

  public init(
    id: NodeID, name: String, peerURLs: [String], clientURLs: [String], isLearner: Bool = false
  ) {
    self.id = id
    self.name = name
    self.peerURLs = peerURLs
    self.clientURLs = clientURLs
    self.isLearner = isLearner
  }
}

/// Who takes part, for the transport.
public struct ClusterRoster: Sendable, Equatable {
  public var members: [ClusterMember]
  /// Members that were removed and must not be listened to.
  public var removed: [NodeID]
  /// What the members may use of what releases have added.
  public var level: FeatureLevel
  public init(
    members: [ClusterMember], removed: [NodeID] = [], level: FeatureLevel = .first
  ) {
    self.members = members
    self.removed = removed
    self.level = level
  }
}

/// Who this member is. Stamped into every file and every peer connection, and checked there.
public struct ClusterIdentity: Sendable, Hashable {
  public var cluster: UInt64
  public var member: NodeID
  public init(cluster: UInt64, member: NodeID) {
    self.cluster = cluster
    self.member = member
  }
}
