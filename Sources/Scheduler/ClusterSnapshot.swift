import KubeAPI

/// What the scheduler knows of nodes and of the pods on them, kept current change by change.
///
/// A pod counts from the moment the scheduler has decided for it (`assume`), before the API server has
/// confirmed the binding: the next decision must already see the place taken.
public struct ClusterSnapshot: Sendable {
  public struct Node: Sendable {
    public internal(set) var object: NodeView
    /// The requests of all pods on the node.
    public internal(set) var requested = ResourceAmounts()
    /// Pods by uid.
    public internal(set) var pods: [String: PodView] = [:]

    // What every decision asks for, read once.
    public private(set) var allocatable = ResourceAmounts()
    /// How many pods there may be; nil without a bound.
    private(set) var mostPods: Int64?
    /// The taints that keep pods away, a node's not being ready among them.
    private(set) var repellents: [Value] = []
    /// The taints that pods only would rather not go near.
    private(set) var deterrents: [Value] = []

    init(_ object: NodeView) {
      self.object = object
      read()
    }

    mutating func update(_ object: NodeView) {
      self.object = object
      read()
    }

    private mutating func read() {
      allocatable = object.allocatable
      mostPods = object.object["status"]["allocatable"]["pods"].quantity?.value
      let taints = object.taints
      deterrents = taints.filter { $0["effect"] == "PreferNoSchedule" }
      repellents = taints.filter { ["NoSchedule", "NoExecute"].contains($0["effect"].string) }
      if !object.isReady {
        // A node that never said it is ready has no taint yet, and is not ready all the same.
        repellents.append(["key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"])
      }
    }
  }

  /// By name.
  public private(set) var nodes: [String: Node] = [:]
  /// Their names, sorted.
  private(set) var names: [String] = []
  /// Labels of namespaces, which rules about neighbours may ask for.
  public internal(set) var namespaceLabels: [String: Value] = [:]
  /// Pods that room was made for, by uid: where they are to go once it is there.
  private var nominated: [String: (node: String, pod: PodView)] = [:]
  /// Uids of placed pods that don't want certain others near.
  private var antiAffineUIDs: Set<String> = []
  /// Where each pod counts.
  private var places: [String: (node: String, pod: PodView)] = [:]

  public init() {}

  /// A cluster as lists show it.
  ///
  /// - Parameter pods: those that are bound count on their nodes; those that room is kept for are noted; finished
  ///   ones count nowhere.
  public init(nodes: [Value], pods: [Value], namespaces: [Value]) {
    for node in nodes { set(node: NodeView(node)) }
    for namespace in namespaces.map(AnyObjectView.init) {
      namespaceLabels[namespace.name] = namespace.labels
    }
    for pod in pods.map(PodView.init) where !pod.isFinished {
      let nominee = pod.object["status"]["nominatedNodeName"].string ?? ""
      if !pod.nodeName.isEmpty {
        place(pod, on: pod.nodeName)
      } else if !nominee.isEmpty {
        nominate(pod, for: nominee)
      }
    }
  }

  public mutating func set(node: NodeView) {
    guard var known = nodes[node.name] else {
      var new = Node(node)
      for (uid, place) in places where place.node == node.name {
        new.pods[uid] = place.pod
        new.requested.add(place.pod.requests)
      }
      nodes[node.name] = new
      names.insert(node.name, at: names.partition(before: node.name))
      return
    }
    known.update(node)
    nodes[node.name] = known
  }

  public mutating func remove(node name: String) {
    guard nodes.removeValue(forKey: name) != nil else { return }
    names.remove(at: names.partition(before: name))
  }

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

extension [String] {
  /// Where `name` is in a sorted array, or would be. O(log n).
  fileprivate func partition(before name: String) -> Int {
    var low = 0
    var high = count
    while low < high {
      let middle = (low + high) / 2
      if self[middle] < name { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
