import Primitives

/// Finds out whether the members made the same of the same log.
///
/// The state machine keeps a rolling hash of every change, in order; members that applied the same entries must
/// have the same one. A bug, a bit that flipped in memory or a damaged disk would make a member answer wrongly
/// for good, and its snapshot would spread it. So the leader asks, every few seconds, for the hash at one index:
///
///     leader:  ask(index) ──▶ every member        each remembers the hashes of its last entries, and answers
///              answers ◀──────                    when it has applied that index
///     a majority of the voters agrees ──▶ members that differ are told to stop
///     no hash has a majority          ──▶ CORRUPT is raised: nobody knows who is right
///
/// Nothing of it goes through the log. A lost message costs one round.
struct StateAgreement {
  /// A member's state at one index.
  struct Mark: Equatable {
    var index: LogIndex
    var revision: Revision
    var hash: UInt64
  }

  enum Verdict: Equatable {
    /// All that answered agree.
    case agreed
    /// A majority agrees, and these members differ from it.
    case diverged([NodeID], from: Mark)
    /// The answers differ, and none has a majority.
    case undecided
    /// More answers are needed.
    case open
  }

  /// A tenth of a second's entries at the highest rate: a question takes less time to arrive.
  static let rememberedEntries = 1_024

  /// The newest marks, each at its index modulo the ring's size.
  private var recent: [Mark] = []

  /// What another member asked for and isn't applied yet.
  private(set) var waiting: (index: LogIndex, from: NodeID)?

  // MARK: The leader's round

  private(set) var asked: Mark?
  private var answers: [NodeID: Mark] = [:]
  /// The newest revision at which all agreed.
  private(set) var lastAgreed = Revision.zero

  /// Takes note of the state after an entry. O(1).
  mutating func applied(_ mark: Mark) {
    if recent.isEmpty {
      recent = Array(
        repeating: Mark(index: .zero, revision: .zero, hash: 0), count: Self.rememberedEntries)
    }
    recent[Int(mark.index.rawValue % UInt64(Self.rememberedEntries))] = mark
  }

  func mark(at index: LogIndex) -> Mark? {
    guard !recent.isEmpty, index > .zero else { return nil }
    let mark = recent[Int(index.rawValue % UInt64(Self.rememberedEntries))]
    return mark.index == index ? mark : nil
  }

  /// Puts a question off until its index is applied. Only the newest one matters.
  mutating func wait(for index: LogIndex, from peer: NodeID) { waiting = (index, peer) }

  mutating func stopWaiting() { waiting = nil }

  /// Begins a round about the leader's own state.
  mutating func ask(_ own: Mark, leader: NodeID) {
    asked = own
    answers = [leader: own]
  }

  mutating func stopAsking() {
    asked = nil
    answers = [:]
  }

  mutating func answered(_ mark: Mark, by member: NodeID) {
    guard let asked, asked.index == mark.index else { return }
    answers[member] = mark
  }

  /// What the answers so far amount to.
  ///
  /// - Parameter isLast: no more answers are waited for.
  mutating func verdict(voters: [NodeID], isLast: Bool) -> Verdict {
    guard let asked else { return .open }
    var votes: [UInt64: Int] = [:]
    for voter in voters {
      if let answer = answers[voter] { votes[answer.hash, default: 0] += 1 }
    }
    let majority = voters.count / 2 + 1
    if let (hash, _) = votes.first(where: { $0.value >= majority }) {
      let others = answers.filter { $0.value.hash != hash }.keys.sorted { $0.rawValue < $1.rawValue }
      guard let right = answers.values.first(where: { $0.hash == hash }) else { return .open }
      if !others.isEmpty { return .diverged(others, from: right) }
      lastAgreed = max(lastAgreed, asked.revision)
      return .agreed
    }
    return isLast && votes.count > 1 ? .undecided : .open
  }
}
