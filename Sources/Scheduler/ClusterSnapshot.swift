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
  /// Labels of namespaces, which rules about neighbours may ask for.
  public internal(set) var namespaceLabels: [String: Value] = [:]
  /// Pods that room was made for, by uid: where they are to go once it is there.
  private var nominated: [String: (node: String, pod: PodView)] = [:]
  /// Uids of placed pods that don't want certain others near.
  private var antiAffineUIDs: Set<String> = []
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
    nominated[pod.uid] = nil
    if !pod.object["spec"]["affinity"]["podAntiAffinity"].isNull { antiAffineUIDs.insert(pod.uid) }
    nodes[node]?.pods[pod.uid] = pod
    nodes[node]?.requested.add(pod.requests)
  }

  public mutating func remove(pod uid: String) {
    nominated[uid] = nil
    guard let place = places.removeValue(forKey: uid) else { return }
    antiAffineUIDs.remove(uid)
    if nodes[place.node]?.pods.removeValue(forKey: uid) != nil {
      nodes[place.node]?.requested.subtract(place.pod.requests)
    }
  }

  /// Pods with rules against others near them.
  var antiAffine: [(node: String, pod: PodView)] { antiAffineUIDs.compactMap { places[$0] } }

  /// Keeps room on a node for a pod, against pods that matter less.
  public mutating func nominate(_ pod: PodView, for node: String) {
    nominated[pod.uid] = (node, pod)
  }

  /// A node with what is kept on it for pods that matter as much as `pod` or more.
  func reserving(_ node: Node, for pod: PodView) -> Node {
    guard !nominated.isEmpty else { return node }
    var node = node
    for (uid, other) in nominated
    where other.node == node.object.name && uid != pod.uid && other.pod.priority >= pod.priority {
      node.pods[uid] = other.pod
      node.requested.add(other.pod.requests)
    }
    return node
  }

  /// The node that a pod counts on.
  public func place(of uid: String) -> String? { places[uid]?.node }
}
