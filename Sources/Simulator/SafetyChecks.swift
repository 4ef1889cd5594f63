import EtcdWire
import MVCC
import Primitives
import Replica

/// A broken promise.
public struct Violation: Error, CustomStringConvertible, Sendable {
  public var what: String
  /// Simulated time since the run's start.
  public var milliseconds: UInt64

  init(_ what: String, _ now: Instant) {
    self.what = what
    milliseconds = (now.nanoseconds - 1_000_000_000) / 1_000_000
  }

  public var description: String { "\(what) (after \(milliseconds) ms of simulated time)" }
}

/// What must hold at every moment, and the memory that it takes to see that it does.
struct SafetyChecks {
  private var leaders: [Term: NodeID] = [:]
  private var hashes: [LogIndex: UInt64] = [:]
  private var applied: [NodeID: (life: Int, index: LogIndex)] = [:]
  private var acknowledged: [AcknowledgedPut] = []
  private var revisionsOfPuts: Set<Revision> = []

  struct AcknowledgedPut {
    var key: [UInt8]
    var value: [UInt8]
    var revision: Revision
  }

  var leaderCount: Int { leaders.count }

  mutating func published(
    _ status: ReplicaStatus, by member: NodeID, life: Int, at now: Instant
  ) throws {
    if status.role == .leader {
      if let other = leaders[status.term], other != member {
        throw Violation("members \(other) and \(member) both lead term \(status.term)", now)
      }
      leaders[status.term] = member
    }
    if let known = hashes[status.appliedIndex], known != status.stateHash {
      throw Violation(
        "member \(member) differs from another at applied index \(status.appliedIndex)", now)
    }
    hashes[status.appliedIndex] = status.stateHash
    if let last = applied[member], last.life == life, status.appliedIndex < last.index {
      throw Violation(
        "member \(member) went back from applied index \(last.index) to \(status.appliedIndex)",
        now)
    }
    applied[member] = (life, status.appliedIndex)
    guard status.appliedIndex <= status.commitIndex else {
      throw Violation(
        "member \(member) applied \(status.appliedIndex), but only \(status.commitIndex) is committed",
        now)
    }
  }

  mutating func acknowledged(_ put: AcknowledgedPut, at now: Instant) throws {
    guard revisionsOfPuts.insert(put.revision).inserted else {
      throw Violation("two puts were answered with revision \(put.revision)", now)
    }
    acknowledged.append(put)
  }

  /// Every acknowledged put must be readable at its revision.
  func verifyAcknowledged(in view: StoreView, of member: NodeID, at now: Instant) throws {
    for put in acknowledged {
      guard let found = read(put.key, in: view, at: put.revision) else {
        throw Violation(
          "member \(member) lost the acknowledged put of revision \(put.revision)", now)
      }
      guard found.value == put.value, found.revision == put.revision else {
        throw Violation(
          "member \(member) holds another value than was acknowledged at revision \(put.revision)",
          now)
      }
    }
  }
}

/// Reads one key of a view, at a revision or (zero) as it is now.
func read(
  _ key: [UInt8], in view: StoreView, at revision: Revision
) -> (value: [UInt8], revision: Revision)? {
  key.withUnsafeBytes { keyBytes in
    var request = RangeRequest()
    request.key = keyBytes
    request.revision = revision.rawValue
    var output: [UInt8] = []
    guard (try? view.range(request, into: &output)) != nil else { return nil }
    return output.withUnsafeBytes { bytes in
      guard let response = try? RangeResponse(bytes) else { return nil }
      for record in response.keyValues {
        return (Array(record.value), Revision(record.modRevision))
      }
      return nil
    }
  }
}
