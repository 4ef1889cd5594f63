import Synchronization

/// How nodes are watched and how fast lost ones are given up: kube-controller-manager's flags of the same names.
public struct NodeMonitoring: Sendable {
  /// How often silence is looked for: `--node-monitor-period`.
  public var period: Duration = .seconds(5)
  /// Silence after which a node counts as lost: `--node-monitor-grace-period`.
  public var gracePeriod: Duration = .seconds(50)
  /// The same for a node that has never said how it is: `--node-startup-grace-period`.
  public var startupGracePeriod: Duration = .seconds(60)
  /// Nodes a second whose pods may begin to leave: `--node-eviction-rate`.
  public var evictionRate = 0.1
  /// The same where many nodes are lost in a large cluster: `--secondary-node-eviction-rate`.
  public var secondaryEvictionRate = 0.01
  /// From how many nodes on a cluster is large; in a smaller one nothing is evicted while many nodes are
  /// lost: `--large-cluster-size-threshold`.
  public var largeClusterSize = 50
  /// The part of the nodes that must be lost to be many: `--unhealthy-zone-threshold`.
  public var unhealthyThreshold = 0.55

  public init() {}

  /// How fast pods may be evicted while so many nodes are ready and so many aren't, in nodes a second; nil
  /// for not at all. When no node is ready it is rather the control plane that is cut off, and when most
  /// aren't, moving their pods to the few others would bury those.
  /// Source: Kubernetes, "Nodes", "Rate limits on eviction". There is one zone here.
  func evictionRate(ready: Int, notReady: Int) -> Double? {
    guard notReady > 0 else { return evictionRate }
    if ready == 0 { return nil }
    let isTrouble =
      notReady > 2 && Double(notReady) / Double(ready + notReady) >= unhealthyThreshold
    if !isTrouble { return evictionRate }
    return ready + notReady > largeClusterSize ? secondaryEvictionRate : nil
  }
}

/// When the next node's pods may begin to leave.
final class EvictionPace: Sendable {
  private let last = Mutex<ContinuousClock.Instant?>(nil)

  /// Takes a turn, if one is due.
  func takeTurn(rate: Double, now: ContinuousClock.Instant) -> Bool {
    guard rate > 0 else { return false }
    return last.withLock { last in
      if let last, now - last < .seconds(1 / rate) { return false }
      last = now
      return true
    }
  }
}
