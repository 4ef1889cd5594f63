import EtcdWire
import MVCC
import Primitives
import Replica
import Verification

/// Takes a member's answers; the world fetches them after each pump.
// The world is single-threaded: the core delivers and the world takes on one thread.
final class SimulatedSink: ReplySink, @unchecked Sendable {
  private var replies: [Reply] = []
  func deliver(_ replies: [Reply]) { self.replies += replies }
  func take() -> [Reply] {
    defer { replies = [] }
    return replies
  }
}

/// A client that asks one thing after the other, of any member.
struct SimulatedClient {
  /// What a client can do.
  enum Operation {
    /// Anything that the model knows.
    case request(ModelRequest)
    case compact(Int64)
    case grant(LeaseID, seconds: Int64)
    case renew(LeaseID)
  }

  struct Running {
    /// Tells the world's operations apart, and makes values unlike any other.
    var number: UInt64
    var member: Int
    var operation: Operation
    var start: Instant
    /// Its number in the history, if the model knows it.
    var call: Int?
    /// The newest revision that any client knew of when this began: what it must see.
    var mustSee: Revision
    /// The newest leader's term then; a lease's renewal counts only if it is the same in the end.
    var leaderTerm: Term
  }

  /// A lease that the client holds.
  struct Lease {
    var id: LeaseID
    var seconds: Int64
    /// Its client let it go or is about to revoke it.
    var isAbandoned = false
  }

  let number: Int
  var running: Running?
  var completed = 0
  var isStopped = false
  var lease: Lease?
  /// The records that it saw last, for predicates that hold more often than by chance.
  var seen: [[UInt8]: ModelRecord] = [:]
}
