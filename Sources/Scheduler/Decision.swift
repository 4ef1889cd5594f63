import KubeAPI

/// Where a pod should run, or why it can't run anywhere.
///
/// First each node is *filtered*: the first reason against it is its verdict. The rest are *scored*; the
/// best takes the pod, and among equals the one with the fewest pods, then the first by name, so that a
/// decision is the same for the same cluster. Source: Kubernetes, "Scheduling Framework".
public struct Decision: Sendable, Equatable {
  public enum Outcome: Sendable, Equatable {
    case bind(node: String)
    /// In Kubernetes' words: `0/3 nodes are available: 1 Insufficient cpu, 2 ...`.
    case unschedulable(message: String)
  }

  /// A node's verdict.
  public struct Verdict: Sendable, Equatable {
    public var node: String
    /// Why not: one filter's objection, which may name several resources; empty if the node would do.
    public var reasons: [String]
    /// 0...100 for each score, times its weight, summed; zero for nodes that were filtered.
    public var score: Int64
  }

  public var outcome: Outcome
  /// Of every node that was looked at, in that order: by name, unless a sample began elsewhere.
  public var verdicts: [Verdict]

  /// Which nodes of a large cluster are looked at.
  ///
  /// With more than a hundred nodes it is enough to find some that would do: half of them, and the larger the
  /// cluster the smaller a part. Decisions begin where the last one ended, so that all nodes have their turn.
  /// Source: Kubernetes, "Scheduler Performance Tuning".
  public struct Sample: Sendable {
    /// The place, in the order of names, of the node that is looked at first.
    public var start: Int

    public init(start: Int) { self.start = start }

    /// How many nodes that would do are enough.
    static func wanted(of count: Int) -> Int {
      guard count > 100 else { return count }
      return max(count * max(50 - count / 125, 5) / 100, 100)
    }
  }

  /// - Parameter sample: nil looks at all nodes; else says where to begin, and where the next decision should.
  public static func decide(
    _ pod: PodView, _ snapshot: ClusterSnapshot, sample: inout Sample?
  ) -> Decision {
    let demands = PodDemands(pod)
    let rules = PlacementRules(pod, snapshot)
    let names = snapshot.names
    let first = names.isEmpty ? 0 : (sample?.start ?? 0) % names.count
    let wanted = sample == nil ? names.count : Sample.wanted(of: names.count)
    var verdicts: [Verdict] = []
    var candidates: [ClusterSnapshot.Node] = []
    var places: [Int] = []
    for offset in names.indices {
      if candidates.count == wanted { break }
      let name = names[(first + offset) % names.count]
      sample?.start = (first + offset + 1) % names.count
      guard let known = snapshot.nodes[name] else { continue }
      let node = snapshot.reserving(known, for: pod)
      let reasons = Filter.reasons(against: node, for: demands, rules: rules)
      if reasons.isEmpty {
        places.append(verdicts.count)
        candidates.append(node)
      }
      verdicts.append(Verdict(node: name, reasons: reasons, score: 0))
    }
    guard !candidates.isEmpty else {
      return Decision(outcome: .unschedulable(message: message(verdicts)), verdicts: verdicts)
    }
    var totals = Array(repeating: Int64(0), count: candidates.count)
    for score in Score.allCases {
      guard let points = score.points(candidates, demands, rules) else { continue }
      for index in points.indices { totals[index] += points[index] }
    }
    for (place, total) in zip(places, totals) { verdicts[place].score = total }
    return Decision(outcome: .bind(node: choose(candidates, totals)), verdicts: verdicts)
  }

  /// Looks at all nodes.
  public static func decide(_ pod: PodView, _ snapshot: ClusterSnapshot) -> Decision {
    var all: Sample?
    return decide(pod, snapshot, sample: &all)
  }

  /// The best node: by score, then the one with the fewest pods, then by name.
  static func choose(_ candidates: [ClusterSnapshot.Node], _ totals: [Int64]) -> String {
    var best = 0
    for index in candidates.indices.dropFirst() {
      let (one, other) = (candidates[index], candidates[best])
      let order = (totals[index], -one.pods.count)
      let known = (totals[best], -other.pods.count)
      if order > known || order == known && one.object.name < other.object.name { best = index }
    }
    return candidates[best].object.name
  }

  static func message(_ verdicts: [Verdict]) -> String {
    guard !verdicts.isEmpty else { return "no nodes available to schedule pods" }
    var counts: [String: Int] = [:]
    // A node that lacks several resources counts for each.
    for reason in verdicts.lazy.flatMap(\.reasons) { counts[reason, default: 0] += 1 }
    let reasons = counts.map { "\($0.value) \($0.key)" }.sorted().joined(separator: ", ")
    return "0/\(verdicts.count) nodes are available: \(reasons)."
  }
}
