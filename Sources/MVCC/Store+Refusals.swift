import EtcdWire

/// What a store refuses while alarms are raised. Every member must set it at the same entry of the log.
public struct Refusals: OptionSet, Sendable, Hashable {
  public var rawValue: UInt8
  public init(rawValue: UInt8) { self.rawValue = rawValue }

  /// Puts, transactions with puts, and new leases.
  public static let growth = Refusals(rawValue: 1)
  /// Every client's command.
  public static let everything = Refusals(rawValue: 2)
}

extension Store {
  /// Why a command is not taken now; nil if it is.
  ///
  /// What makes room is always taken (deletions, compaction, the end of leases), and so is what the leader's
  /// clock says, which no client asked for.
  func refusal(of command: Command) -> ApplyError? {
    switch command.kind {
    case .leaseExpire, .leaseCheckpoint: return nil
    default: break
    }
    if refusals.contains(.everything) { return .corrupt }
    guard refusals.contains(.growth) else { return nil }
    switch command.kind {
    case .put, .leaseGrant: return .noSpace
    case .txn:
      guard let request = try? TxnRequest(command.body) else { return nil }
      return request.hasPuts ? .noSpace : nil
    default: return nil
    }
  }
}

extension TxnRequest {
  /// Whether any branch, however nested, puts a key. Nesting is bounded when the request is read.
  public var hasPuts: Bool {
    for list in [success, failure] {
      for operation in list {
        switch operation.request {
        case .put: return true
        case .txn(let nested) where nested.hasPuts: return true
        default: continue
        }
      }
    }
    return false
  }
}
