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
  private struct Seen {
    var life: Int
    var applied: LogIndex
    var commit: LogIndex
    var term: Term
    var revision: Revision
  }

  private var leaders: [Term: NodeID] = [:]
  private var hashes: [LogIndex: UInt64] = [:]
  private var revisions: [LogIndex: Revision] = [:]
  private var seen: [NodeID: Seen] = [:]
  /// The highest term that anybody is known to lead.
  private(set) var newestLeaderTerm = Term.zero

  var leaderCount: Int { leaders.count }

  func isKnownLeader(of term: Term) -> Bool { leaders[term] != nil }

  mutating func published(
    _ status: ReplicaStatus, _ view: StoreView, by member: NodeID, life: Int, at now: Instant
  ) throws {
    if status.role == .leader {
      if let other = leaders[status.term], other != member {
        throw Violation("members \(other) and \(member) both lead term \(status.term)", now)
      }
      leaders[status.term] = member
      newestLeaderTerm = max(newestLeaderTerm, status.term)
    }
    if let known = hashes[status.appliedIndex], known != status.stateHash {
      throw Violation(
        "member \(member) differs from another at applied index \(status.appliedIndex)", now)
    }
    hashes[status.appliedIndex] = status.stateHash
    if let known = revisions[status.appliedIndex], known != view.revision {
      throw Violation(
        "member \(member) is at revision \(view.revision) at applied index \(status.appliedIndex), "
          + "another at \(known)", now)
    }
    revisions[status.appliedIndex] = view.revision
    guard status.appliedIndex <= status.commitIndex else {
      throw Violation(
        "member \(member) applied \(status.appliedIndex), but only \(status.commitIndex) is committed",
        now)
    }
    let new = Seen(
      life: life, applied: status.appliedIndex, commit: status.commitIndex, term: status.term,
      revision: view.revision)
    defer { seen[member] = new }
    guard let last = seen[member] else { return }
    // A crash may lose what was seen but not yet promised to anybody.
    guard last.life == life else { return }
    func mustRise<Value: Comparable>(_ what: String, _ old: Value, _ new: Value) throws {
      if new < old { throw Violation("member \(member)'s \(what) fell from \(old) to \(new)", now) }
    }
    try mustRise("term", last.term, new.term)
    try mustRise("applied index", last.applied, new.applied)
    try mustRise("commit index", last.commit, new.commit)
    try mustRise("revision", last.revision, new.revision)
  }

  // MARK: At rest

  private var keysHash: (hash: UInt32, compacted: Revision)?

  /// Members at rest hold the same keys and history, byte by byte.
  mutating func verifyEqual(_ view: StoreView, of member: NodeID, at now: Instant) throws {
    guard let hash = try? view.keysHash(at: .zero) else { return }
    if let known = keysHash, known.compacted == view.compactRevision, known.hash != hash {
      throw Violation("member \(member)'s keys differ from another's at rest", now)
    }
    keysHash = (hash, view.compactRevision)
  }
}
