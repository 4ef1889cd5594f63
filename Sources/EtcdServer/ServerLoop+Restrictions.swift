import EtcdWire
import MVCC
import Primitives
import Replica

// What a member does not answer for a while: because its quota is used up, because the data may be damaged, or
// because it is a learner.

extension ServerLoop {
  /// Why a unary call is refused before anything is proposed; nil if it is answered.
  ///
  /// - Parameter restrictions: not empty.
  func refusal(
    of method: EtcdMethod, _ message: UnsafeRawBufferPointer, _ restrictions: Restrictions
  ) -> EtcdError? {
    if restrictions.contains(.learner), !isServedByLearners(method, message) {
      return .notSupportedForLearner
    }
    if restrictions.contains(.corrupt) {
      switch method {
      case .range, .rangeStream, .put, .deleteRange, .txn, .compact, .leaseGrant, .leaseRevoke:
        return .corrupt
      default: break
      }
    }
    guard restrictions.contains(.noSpace) else { return nil }
    switch method {
    case .put, .leaseGrant: return .noSpace
    case .txn:
      // One that can't be read is told so later.
      guard let request = try? TxnRequest(message) else { return nil }
      return request.hasPuts ? .noSpace : nil
    default: return nil
    }
  }

  private func isServedByLearners(
    _ method: EtcdMethod, _ message: UnsafeRawBufferPointer
  ) -> Bool {
    switch method {
    case .status, .snapshot, .healthCheck: return true
    case .range, .rangeStream: return (try? RangeRequest(message).serializable) ?? false
    default: return false
    }
  }
}
