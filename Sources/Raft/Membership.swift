public import Primitives

/// Who takes part, in the form that joint consensus needs.
///
/// While `votersOutgoing` is not empty the membership is *joint*: every decision needs a majority of
/// `voters` and a majority of `votersOutgoing`. All lists are sorted and free of duplicates.
///
/// Source: Ongaro, "Consensus: Bridging Theory and Practice", 2014, section 4.3.
public struct Membership: Sendable, Equatable {
  /// The voters, of the new membership where it is joint.
  public private(set) var voters: [NodeID]
  /// The voters of the old membership; empty unless joint.
  public private(set) var votersOutgoing: [NodeID]
  /// Members that receive the log and don't vote. Disjoint from both voter lists.
  public private(set) var learners: [NodeID]
  /// Outgoing voters that become learners when the joint membership is left.
  public private(set) var learnersNext: [NodeID]
  /// Whether the leader leaves the joint membership by itself once it is committed.
  public var leavesAutomatically: Bool

  /// Lists are sorted and cleared of duplicates; a learner that also votes counts as a voter.
  public init(
    voters: [NodeID] = [], votersOutgoing: [NodeID] = [], learners: [NodeID] = [],
    learnersNext: [NodeID] = [], leavesAutomatically: Bool = false
  ) {
    self.voters = Membership.normalized(voters)
    self.votersOutgoing = Membership.normalized(votersOutgoing)
    self.learners = Membership.normalized(
      learners.filter { !voters.contains($0) && !votersOutgoing.contains($0) })
    self.learnersNext = Membership.normalized(
      learnersNext.filter { votersOutgoing.contains($0) && !voters.contains($0) })
    self.leavesAutomatically = leavesAutomatically && !votersOutgoing.isEmpty
  }

  public var isJoint: Bool { !votersOutgoing.isEmpty }

  /// Everybody who receives the log, sorted.
  public var members: [NodeID] { Membership.normalized(voters + votersOutgoing + learners) }

  public func isVoter(_ id: NodeID) -> Bool {
    voters.contains(id) || votersOutgoing.contains(id)
  }

  public func contains(_ id: NodeID) -> Bool { isVoter(id) || learners.contains(id) }

  private static func normalized(_ ids: [NodeID]) -> [NodeID] {
    var result: [NodeID] = []
    for id in ids.sorted() where result.last != id { result.append(id) }
    return result
  }
}

/// A wish to change the membership.
public struct MembershipChange: Sendable, Equatable {
  public enum Step: Sendable, Equatable {
    /// Adds a voter, or makes a learner one.
    case addVoter(NodeID)
    /// Adds a learner, or makes a voter one.
    case addLearner(NodeID)
    case remove(NodeID)
  }
  public enum Transition: UInt8, Sendable {
    /// One change of the voters is made in a step; more go through a joint membership that the leader
    /// leaves by itself.
    case automatic = 0
    /// Joint, until a change with ``MembershipChange/leaveJoint`` ends it.
    case explicitJoint = 1
  }
  /// Applied in order. Empty means: leave the joint membership.
  public var steps: [Step]
  public var transition: Transition
  /// Opaque bytes for the state machine (names and addresses of the members); they travel in the entry.
  public var context: [UInt8]

  public init(_ steps: [Step], transition: Transition = .automatic, context: [UInt8] = []) {
    self.steps = steps
    self.transition = transition
    self.context = context
  }

  public static let leaveJoint = MembershipChange([])
}

/// The payload of a `.membership` entry: the membership that holds from this entry on.
///
/// The whole result is logged, not the change, so that an entry means the same whatever came before it.
public struct MembershipEntry: Sendable, Equatable {
  public var membership: Membership
  /// The ``MembershipChange/context`` of the change; empty where the leader leaves a joint membership.
  public var context: [UInt8]

  public init(membership: Membership, context: [UInt8] = []) {
    self.membership = membership
    self.context = context
  }
}
