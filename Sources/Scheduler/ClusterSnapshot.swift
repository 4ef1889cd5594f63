import KubeAPI

/// What the scheduler knows of nodes and of the pods on them, kept current change by change.
///
/// A pod counts from the moment the scheduler has decided for it (`assume`), before the API server has
/// confirmed the binding: the next decision must already see the place taken.
public struct ClusterSnapshot: Sendable {
  public struct Node: Sendable {
    public var object: NodeView
    public var allocatable: ResourceAmounts
    /// The requests of all pods on the node.
    public var requested = ResourceAmounts()
    /// Pods by uid.
    public var pods: [String: PodView] = [:]

    init(_ object: NodeView) {
      self.object = object
      allocatable = object.allocatable
    }
  }

  /// By name.
  public private(set) var nodes: [String: Node] = [:]
  /// Where each pod counts.
  private var places: [String: (node: String, pod: PodView)] = [:]

  public init() {}

  public mutating func set(node: NodeView) {
    guard var known = nodes[node.name] else {
      var new = Node(node)
      for (uid, place) in places where place.node == node.name {
        new.pods[uid] = place.pod
        new.requested.add(place.pod.requests)
      }
      nodes[node.name] = new
      return
    }
    known.object = node
    known.allocatable = node.allocatable
    nodes[node.name] = known
  }

  public mutating func remove(node name: String) { nodes[name] = nil }

  /// Counts a pod on a node, and no longer where it counted before.
  public mutating func place(_ pod: PodView, on node: String) {
    remove(pod: pod.uid)
    places[pod.uid] = (node, pod)
    nodes[node]?.pods[pod.uid] = pod
    nodes[node]?.requested.add(pod.requests)
  }

  public mutating func remove(pod uid: String) {
    guard let place = places.removeValue(forKey: uid) else { return }
    if nodes[place.node]?.pods.removeValue(forKey: uid) != nil {
      nodes[place.node]?.requested.subtract(place.pod.requests)
    }
  }

  /// The node that a pod counts on.
  public func place(of uid: String) -> String? { places[uid]?.node }
}
