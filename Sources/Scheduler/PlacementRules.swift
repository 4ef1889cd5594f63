import KubeAPI

/// What a pod demands and wishes of its neighbours: inter-pod affinity and topology spread.
///
/// Counted once a decision, over the pods that there are, into numbers by topology value (a zone, a host);
/// each node is then judged by its own labels alone. A pod without such rules, in a cluster where no pod has an
/// anti-affinity, costs nothing.
/// Source: Kubernetes, "Inter-pod affinity and anti-affinity", "Pod Topology Spread Constraints".
struct PlacementRules {
  /// A rule of affinity, with how many pods it matches by value of its topology key.
  private struct Term {
    var key: String
    var counts: [String: Int64] = [:]
    var weight: Int64 = 0
    /// Whether the pod itself is one that the rule speaks of.
    var matchesSelf: Bool
  }

  private struct Spread {
    var key: String
    var maxSkew: Int64
    var isRequired: Bool
    var matchesSelf: Bool
    var counts: [String: Int64] = [:]
    var minimum: Int64 = 0
  }

  private static let required = "requiredDuringSchedulingIgnoredDuringExecution"
  private static let preferred = "preferredDuringSchedulingIgnoredDuringExecution"

  private var affinity: [Term] = []
  private var antiAffinity: [Term] = []
  private var wishes: [Term] = []
  private var spreads: [Spread] = []
  /// Places where a pod stands that doesn't want this one near: topology key and values.
  private var forbidden: [String: Set<String>] = [:]

  init(_ pod: PodView, _ snapshot: ClusterSnapshot) {
    let own = pod.object["spec"]["affinity"]
    affinity = Self.terms(own["podAffinity"][Self.required].elements, of: pod, snapshot)
    antiAffinity = Self.terms(own["podAntiAffinity"][Self.required].elements, of: pod, snapshot)
    for (kind, sign) in [("podAffinity", Int64(1)), ("podAntiAffinity", -1)] {
      for wish in own[kind][Self.preferred].elements {
        var terms = Self.terms([wish["podAffinityTerm"]], of: pod, snapshot)
        for index in terms.indices { terms[index].weight = sign * (wish["weight"].integer ?? 1) }
        wishes += terms
      }
    }
    for other in snapshot.antiAffine {
      guard let node = snapshot.nodes[other.node] else { continue }
      let rules = other.pod.object["spec"]["affinity"]["podAntiAffinity"][Self.required]
      for term in rules.elements where Self.matches(term, of: other.pod, pod, snapshot) {
        let key = term["topologyKey"].string ?? ""
        if let value = node.object.labels[key].string {
          forbidden[key, default: []].insert(value)
        }
      }
    }
    spreads = pod.object["spec"]["topologySpreadConstraints"].elements.map {
      Self.spread($0, pod, snapshot)
    }
  }

  // MARK: Counting

  private static func terms(
    _ terms: [Value], of pod: PodView, _ snapshot: ClusterSnapshot
  ) -> [Term] {
    terms.map { term in
      let key = term["topologyKey"].string ?? ""
      var result = Term(key: key, matchesSelf: matches(term, of: pod, pod, snapshot))
      for node in snapshot.nodes.values {
        guard let value = node.object.labels[key].string else { continue }
        let count = node.pods.values.lazy.filter { matches(term, of: pod, $0, snapshot) }.count
        if count > 0 { result.counts[value, default: 0] += Int64(count) }
      }
      return result
    }
  }

  /// Whether a rule of `owner` speaks of `other`.
  private static func matches(
    _ term: Value, of owner: PodView, _ other: PodView, _ snapshot: ClusterSnapshot
  ) -> Bool {
    let names = term["namespaces"].strings
    let selector = term["namespaceSelector"]
    let isInNamespace: Bool
    if names.isEmpty, selector.isNull {
      isInNamespace = other.namespace == owner.namespace
    } else {
      isInNamespace =
        names.contains(other.namespace)
        || !selector.isNull
          && ((try? LabelSelector(object: selector))?
            .matches(snapshot.namespaceLabels[other.namespace] ?? .null) ?? false)
    }
    guard isInNamespace, !term["labelSelector"].isNull,
      let labels = try? LabelSelector(object: term["labelSelector"])
    else { return false }
    return labels.matches(other.labels)
  }

  private static func spread(
    _ rule: Value, _ pod: PodView, _ snapshot: ClusterSnapshot
  ) -> Spread {
    var selector = rule["labelSelector"]
    for key in rule["matchLabelKeys"].strings {
      if let value = pod.labels[key].string {
        selector["matchExpressions"].append([
          "key": Value(key), "operator": "In", "values": [Value(value)],
        ])
      }
    }
    let labels =
      selector.isNull ? nil : try? LabelSelector(object: selector)
    let key = rule["topologyKey"].string ?? ""
    var spread = Spread(
      key: key, maxSkew: rule["maxSkew"].integer ?? 1,
      isRequired: rule["whenUnsatisfiable"] != "ScheduleAnyway",
      matchesSelf: labels?.matches(pod.labels) ?? false)
    for node in snapshot.nodes.values {
      guard let value = node.object.labels[key].string else { continue }
      // Places where the pod couldn't go anyway are no domains.
      if rule["nodeAffinityPolicy"] != "Ignore",
        !NodeSelector.allows(node.object, spec: pod.object["spec"])
      {
        continue
      }
      if rule["nodeTaintsPolicy"] == "Honor",
        node.object.taints.contains(where: {
          ["NoSchedule", "NoExecute"].contains($0["effect"].string) && !pod.tolerates($0)
        })
      {
        continue
      }
      let count = node.pods.values.lazy.filter {
        $0.namespace == pod.namespace && !$0.isBeingDeleted
          && labels?.matches($0.labels) ?? false
      }.count
      spread.counts[value, default: 0] += Int64(count)
    }
    spread.minimum = spread.counts.values.min() ?? 0
    if let domains = rule["minDomains"].integer, Int64(spread.counts.count) < domains {
      spread.minimum = 0
    }
    return spread
  }

  // MARK: Judging

  /// The reason that spreading gives against a node; nil if there is none.
  func spreadObjection(_ node: NodeView) -> String? {
    for spread in spreads where spread.isRequired {
      guard let value = node.labels[spread.key].string else {
        return "node(s) didn't match pod topology spread constraints (missing required label)"
      }
      let count = (spread.counts[value] ?? 0) + (spread.matchesSelf ? 1 : 0)
      if count - spread.minimum > spread.maxSkew {
        return "node(s) didn't match pod topology spread constraints"
      }
    }
    return nil
  }

  /// The reason that neighbours give against a node; nil if there is none.
  func neighbourObjection(_ node: NodeView) -> String? {
    if !satisfiesAffinity(node) { return "node(s) didn't match pod affinity rules" }
    if antiAffinity.contains(where: { count($0, node) > 0 }) {
      return "node(s) didn't match pod anti-affinity rules"
    }
    for (key, values) in forbidden {
      if let value = node.labels[key].string, values.contains(value) {
        return "node(s) didn't satisfy existing pods anti-affinity rules"
      }
    }
    return nil
  }

  /// Whether the pod wishes anything about neighbours, or about being spread.
  var hasNeighbourWishes: Bool { !wishes.isEmpty }
  var hasSpreadWishes: Bool { spreads.contains { !$0.isRequired } }

  private func count(_ term: Term, _ node: NodeView) -> Int64 {
    node.labels[term.key].string.flatMap { term.counts[$0] } ?? 0
  }

  private func satisfiesAffinity(_ node: NodeView) -> Bool {
    if affinity.isEmpty { return true }
    guard affinity.allSatisfy({ node.labels[$0.key].string != nil }) else { return false }
    if affinity.allSatisfy({ count($0, node) > 0 }) { return true }
    // The first of a group that wants to be together has to go somewhere.
    return affinity.allSatisfy { $0.matchesSelf && $0.counts.isEmpty }
  }

  /// How much the wishes speak for a node, and how full its places are already; higher is better.
  func preference(_ node: NodeView) -> (affinity: Int64, spread: Int64) {
    let affinity = wishes.reduce(0) { $0 + $1.weight * count($1, node) }
    var crowd: Int64 = 0
    for spread in spreads where !spread.isRequired {
      // A node outside of all places is worse than the fullest of them.
      let value = node.labels[spread.key].string
      crowd += value.map { spread.counts[$0] ?? 0 } ?? (spread.counts.values.max() ?? 0) + 1
    }
    return (affinity, -crowd)
  }
}
