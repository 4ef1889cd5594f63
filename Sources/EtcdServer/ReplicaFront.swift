import MVCC
import Primitives
import Replica

/// What the services need of the replica behind them: `ReplicaService` in a member, something
/// synchronous in tests.
///
/// Every method may be called from any event loop and returns at once; answers come through the sinks.
public protocol ReplicaFront: AnyObject, Sendable {
  var identity: ClusterIdentity { get }
  /// The published root.
  var view: StoreView { get }
  var status: ReplicaStatus { get }
  /// Whether the published root wants requests authorised. Cheap.
  var isAuthEnabled: Bool { get }
  /// The logins that this member knows.
  var tokens: LoginTokens { get }
  /// What clients are refused now; asked for with every call.
  var restrictions: Restrictions { get }
  /// Bytes that the state may still grow by; asked for with every write.
  var quotaLeft: UInt64 { get }
  /// How long the member's work took.
  var timings: ReplicaTimings { get }
  /// What went to and came from each other member.
  var traffic: [PeerTraffic] { get }
  func submit(_ batch: ProposalBatch)
  func requestRead(token: UInt64, sink: any ReplySink)
  func watch(_ request: WatchRequest, token: UInt64, sink: any ReplySink)
  func cancelWatch(_ id: WatcherID)
  func requestProgress(token: UInt64, sink: any ReplySink)
  func keepAlive(lease: LeaseID, token: UInt64, sink: any ReplySink)
  func leaseTime(lease: LeaseID, token: UInt64, sink: any ReplySink)
  func transferLeadership(to member: NodeID)
  func exportSnapshot(token: UInt64, sink: any ReplySink)
  func change(_ command: ClusterCommand, token: UInt64, sink: any ReplySink)
}

/// What a front has that neither bounds its state nor measures itself.
extension ReplicaFront {
  public var quotaLeft: UInt64 { .max }
  public var timings: ReplicaTimings { ReplicaTimings() }
  public var traffic: [PeerTraffic] { [] }
}

extension ReplicaService: ReplicaFront {}
