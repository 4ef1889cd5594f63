import Primitives

/// Something that keeps the cluster from working fully until it is cleared; one a member and kind.
public struct Alarm: Sendable, Hashable, Comparable {
  /// The numbers are those of etcd's `AlarmType`.
  public enum Kind: UInt8, Sendable, CaseIterable {
    /// A member's state has reached its quota: nothing is taken that makes it larger.
    case noSpace = 1
    /// Members were found to differ: nothing is answered that relies on the data.
    case corrupt = 2
  }

  public var kind: Kind
  /// Whose alarm it is; zero where a client named none.
  public var member: NodeID

  public init(_ kind: Kind, member: NodeID) {
    self.kind = kind
    self.member = member
  }

  public static func < (left: Alarm, right: Alarm) -> Bool {
    (left.member, left.kind.rawValue) < (right.member, right.kind.rawValue)
  }
}

/// What a member refuses to its clients at the moment.
public struct Restrictions: OptionSet, Sendable, Hashable {
  public var rawValue: UInt8
  public init(rawValue: UInt8) { self.rawValue = rawValue }

  /// The state must not grow.
  public static let noSpace = Restrictions(rawValue: 1)
  /// The data must not be relied on.
  public static let corrupt = Restrictions(rawValue: 2)
  /// A learner answers serializable reads and little else.
  public static let learner = Restrictions(rawValue: 4)
}
