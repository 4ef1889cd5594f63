import KubeAPI

/// A whole scheduling decision: of every node each filter's verdict and each score.
///
/// It is made of the same functions that decide, so it can't tell another story than the scheduler's; unlike a
/// decision it asks every filter, also behind the first that objects, and looks at every node.
public struct Explanation: Sendable, Equatable {
  public struct Node: Sendable, Equatable {
    public struct Filtering: Sendable, Equatable {
      public var filter: String
      /// None: the node passes.
      public var reasons: [String]
    }
    public struct Scoring: Sendable, Equatable {
      public var score: String
      /// Weighted.
      public var points: Int64
    }

    public var name: String
    public var filters: [Filtering]
    /// Empty where a filter objects. Scores that tell no two nodes apart, or that the pod gives no cause for, are
    /// left out.
    public var scores: [Scoring]

    public var isFeasible: Bool { filters.allSatisfy(\.reasons.isEmpty) }
    public var total: Int64 { scores.reduce(0) { $0 + $1.points } }
  }

  /// By name.
  public var nodes: [Node]
  public var outcome: Decision.Outcome
  /// Which pods could make room where no node will do.
  public var preemption: Preemption?

  /// - Parameter budgets: disruption budgets, for preemption.
  public init(_ pod: PodView, _ snapshot: ClusterSnapshot, budgets: [Value] = []) {
    let demands = PodDemands(pod)
    let rules = PlacementRules(pod, snapshot)
    let known = snapshot.names.compactMap { snapshot.nodes[$0] }
      .map { snapshot.reserving($0, for: pod) }
    var nodes = known.map { node in
      Node(
        name: node.object.name,
        filters: Filter.allCases.map { filter in
          Node.Filtering(
            filter: filter.rawValue,
            reasons: filter.reasons(against: node, for: demands, rules: rules))
        }, scores: [])
    }
    let feasible = nodes.indices.filter { nodes[$0].isFeasible }
    let candidates = feasible.map { known[$0] }
    for score in Score.allCases {
      guard !candidates.isEmpty, let points = score.points(candidates, demands, rules) else {
        continue
      }
      for (index, own) in zip(feasible, points) {
        nodes[index].scores.append(Node.Scoring(score: score.rawValue, points: own))
      }
    }
    self.nodes = nodes
    outcome = Decision.decide(pod, snapshot).outcome
    if candidates.isEmpty { preemption = Preemption.decide(pod, snapshot, budgets: budgets) }
  }

  /// For people.
  public var text: String {
    var lines: [String] = []
    // The best first, then those that can't take it.
    let ordered = nodes.sorted {
      ($0.isFeasible ? 0 : 1, -$0.total, $0.name) < ($1.isFeasible ? 0 : 1, -$1.total, $1.name)
    }
    for node in ordered {
      if node.isFeasible {
        lines.append("\(node.name): \(node.total) points")
        for score in node.scores {
          lines.append("  \(score.score.padded(to: 34))\(score.points)")
        }
      } else {
        lines.append("\(node.name): can't take it")
        for filter in node.filters where !filter.reasons.isEmpty {
          lines.append("  \(filter.filter.padded(to: 34))\(filter.reasons.joined(separator: "; "))")
        }
        let passed = node.filters.filter(\.reasons.isEmpty).map(\.filter)
        if !passed.isEmpty { lines.append("  passes \(passed.joined(separator: ", "))") }
      }
    }
    switch outcome {
    case .bind(let node): lines.append("Chosen: \(node)")
    case .unschedulable(let message):
      lines.append(message)
      if let preemption {
        let victims = preemption.victims.map(\.key).joined(separator: ", ")
        lines.append("On \(preemption.node) these would make room: \(victims)")
      }
    }
    return lines.joined(separator: "\n")
  }
}

extension String {
  fileprivate func padded(to width: Int) -> String {
    count >= width ? self + " " : self + String(repeating: " ", count: width - count)
  }
}
