import Primitives

// Members of different releases in one cluster
// ============================================
//
// The problem. A cluster is upgraded member by member, while it serves. For a while the members are of two
// releases, and they must go on deciding alike: an entry that only some of them understand would make them
// differ for ever.
//
// The design. What members must agree on (kinds of entries, how they are applied and hashed, formats between
// members) has a number, the *feature level*; releases that don't change any of it share one. A release knows a
// range of levels. Each member tells its range in the log, the leader computes the highest level that all of them
// know, and once that is higher than the cluster's, an entry says so. From that entry on, and not before, members
// may propose what the level added. The cluster's level never falls.
//
//     members know     cluster's level
//     1 1 1            1
//     1 1 1..2         1                  the first one is upgraded
//     1..2 1..2 1..2   2                  the last one tells its range: the leader raises the level
//     1..2 1..2 1..3   2
//
// Releases before level 2 tell nothing, and ignore the entries that do: a member that has told nothing counts as
// knowing level 1. A member that has missed what others told (it was of such a release, or got a snapshot from
// one) hears it again from each of them when there is a new leader, as long as the cluster isn't at their level.
//
// A member that doesn't know the cluster's level must not take part: it would apply entries wrongly. It stops, and
// says which level it would have to know. So does one that is too new to know the level, before it does anything.
//
// | level | added |
// |---|---|
// | 1 | everything up to the level itself |
// | 2 | members tell their levels; the cluster's is in snapshots |

/// What the members of a cluster agree on. See the essay above.
public struct FeatureLevel: RawRepresentable, Hashable, Comparable, Sendable,
  CustomStringConvertible
{
  public var rawValue: UInt16
  public init(rawValue: UInt16) { self.rawValue = rawValue }
  public init(_ rawValue: UInt16) { self.rawValue = rawValue }

  /// That of releases which tell none, and of a new cluster.
  public static let first = FeatureLevel(1)
  /// The newest that this release knows.
  public static let newest = FeatureLevel(2)
  /// All that this release knows.
  public static let known = first...newest

  public static func < (left: FeatureLevel, right: FeatureLevel) -> Bool {
    left.rawValue < right.rawValue
  }
  public var description: String { "\(rawValue)" }
}

extension ClosedRange<FeatureLevel> {
  /// Why a member that knows these levels can't take part in a cluster; nil if it can.
  public func refusal(of level: FeatureLevel) -> ReplicaFailure? {
    if level > upperBound {
      return ReplicaFailure(
        "the cluster's data is of feature level \(level), and this release knows levels \(lowerBound) to \(upperBound): "
          + "it is too old. Start the release that the other members have; the data is untouched")
    }
    if level < lowerBound {
      return ReplicaFailure(
        "the cluster's data is of feature level \(level), and this release knows levels \(lowerBound) to \(upperBound): "
          + "it is too new. Upgrade every member to a release that knows level \(level) and \(lowerBound) first; "
          + "the data is untouched")
    }
    return nil
  }
}

/// What a member has told of itself.
struct KnownLevels: Sendable, Equatable {
  var member: NodeID
  var levels: ClosedRange<FeatureLevel>
}
