import Primitives

@testable import Raft

/// A cluster in memory: cores, disks that may lose what was not synced, and a network that does what
/// the test says. It checks Raft's promises at every step:
///
/// - *Election Safety*: a term has at most one leader.
/// - *State Machine Safety*: all members apply the same entry at an index.
/// - *Leader Completeness*: a new leader's log holds everything that was ever committed.
/// - *Log Matching*: logs that agree at an index agree before it.
/// - *Read Recency*: a read index covers all that had been committed anywhere when it was asked for.
final class Cluster {
  struct Snapshot {
    var metadata: SnapshotMetadata
    /// The state machine's content: everything applied.
    var content: [Entry]
  }

  struct Write {
    /// Nil where the log only starts anew behind a snapshot.
    var ticket: PersistTicket?
    var restartsLog = false
    var hardState: HardState?
    var entries: [Entry]
  }

  struct Disk {
    var hardState = HardState()
    var snapshot: Snapshot
    var entries: [Entry] = []

    mutating func perform(_ write: Write) {
      if let hardState = write.hardState { self.hardState = hardState }
      if write.restartsLog { entries = [] }
      guard let first = write.entries.first else { return }
      if let own = entries.first, first.index >= own.index {
        entries.removeSubrange(Int(first.index - own.index)...)
        entries += write.entries
      } else {
        entries = write.entries
      }
    }
  }

  final class Member {
    let id: NodeID
    var core: RaftCore?
    var disk: Disk
    /// Handed to the disk and not synced, in order.
    var writes: [Write] = []
    var applied: [Entry] = []
    var logReads: [LogRead] = []
    init(id: NodeID, disk: Disk) {
      self.id = id
      self.disk = disk
    }
  }

  struct Transfer {
    var request: SnapshotRequest
    var from: NodeID
    var snapshot: Snapshot
  }

  struct Violation: Error, CustomStringConvertible {
    var description: String
  }

  var settings = Settings()
  var random: RandomSource
  var members: [Member] = []
  var network: [Message] = []
  var transfers: [Transfer] = []
  /// What happened, for transcripts.
  var trace: [String] = []
  var traces = false

  // What the checks know.
  var leaders: [UInt64: NodeID] = [:]
  /// Entry `i + 1` as the first member applied it.
  var decided: [Entry] = []
  /// For each read, what had been decided when it was asked.
  var readFloors: [UInt64: LogIndex] = [:]
  var readsAnswered = 0

  init(seed: UInt64) { random = RandomSource(seed: seed) }

  func member(_ id: NodeID) -> Member { members.first { $0.id == id }! }

  func add(_ id: NodeID, membership: Membership) {
    let start = SnapshotMetadata(index: .zero, term: .zero, membership: membership)
    members.append(Member(id: id, disk: Disk(snapshot: Snapshot(metadata: start, content: []))))
    self.start(members[members.count - 1])
  }

  /// Starts a member from its disk.
  func start(_ member: Member) {
    let first = member.disk.entries.first?.index ?? .zero
    let next = member.disk.snapshot.metadata.index.next
    var start = StartState(
      hardState: member.disk.hardState, snapshot: member.disk.snapshot.metadata,
      entries: first <= next ? member.disk.entries : [])
    let last = start.entries.last?.index ?? .zero
    if !start.entries.isEmpty, first < next, last >= next.previous,
      start.entries[Int(next.previous - first)].term == start.snapshot.term, random.oneIn(2)
    {
      // Older entries need not be loaded: their terms are enough.
      for entry in start.entries where entry.index < next {
        if start.olderTerms.last?.term != entry.term {
          start.olderTerms.append(TermRun(first: entry.index, term: entry.term))
        }
      }
      start.entries.removeAll { $0.index < next }
    }
    member.applied = member.disk.snapshot.content
    let core = RaftCore(
      id: member.id, settings: settings, start: start, random: random.split())
    // A snapshot overtook the log, and the crash came before the log started anew behind it.
    if core.lastIndex == next.previous { member.disk.entries = [] }
    member.core = core
  }

  /// The member loses what is not on disk; of the writes under way, the first `synced` got there.
  func crash(_ member: Member, synced: Int = 0) {
    for write in member.writes.prefix(synced) { member.disk.perform(write) }
    member.writes.removeAll()
    member.logReads.removeAll()
    member.core = nil
  }

  // MARK: Events

  /// Does what the member's core says, except for the disk and the network, which wait.
  func drain(_ member: Member) throws {
    while member.core?.hasReady == true {
      let ready = member.core!.takeReady()
      try handle(ready, of: member)
    }
  }

  private func handle(_ ready: Ready, of member: Member) throws {
    if let change = ready.roleChange {
      note("\(member.id) is \(change.role) in term \(change.term), leader \(text(change.leader))")
      if change.role == .leader { try checkLeader(member, term: change.term) }
    }
    if let ticket = ready.ticket {
      member.writes.append(
        Write(ticket: ticket, hardState: ready.hardState, entries: ready.entries))
      note("\(member.id) writes \(text(member.writes[member.writes.count - 1]))")
    } else if ready.hardState != nil || !ready.entries.isEmpty {
      throw Violation(description: "something to write without a ticket")
    }
    for message in ready.messages {
      note(text(message))
      network.append(message)
    }
    for entry in ready.committed { try apply(entry, at: member) }
    if let last = ready.committed.last { member.core!.applied(through: last.index) }
    for read in ready.reads {
      note("\(member.id) may read \(read.context) at \(read.index)")
      readsAnswered += 1
      if let floor = readFloors.removeValue(forKey: read.context), read.index < floor {
        throw Violation(
          description: "Read Recency: \(read.index) was given where \(floor) was decided before")
      }
    }
    for context in ready.failedReads { note("\(member.id) can't read \(context)") }
    for context in ready.refusedProposals { note("\(member.id) hears: \(context) was refused") }
    for read in ready.logReads {
      note("\(member.id) reads log \(read.from)...\(read.through) for \(read.peer)")
      member.logReads.append(read)
    }
    for request in ready.snapshotsToSend {
      note("\(member.id) needs to send \(request.peer) a snapshot at \(request.atLeast) or later")
      if member.disk.snapshot.metadata.index < request.atLeast {
        throw Violation(description: "no snapshot reaches the log's start")
      }
      transfers.append(
        Transfer(request: request, from: member.id, snapshot: member.disk.snapshot))
    }
  }

  private func apply(_ entry: Entry, at member: Member) throws {
    note("\(member.id) applies \(text(entry))")
    guard entry.index == LogIndex(UInt64(member.applied.count)).next else {
      throw Violation(description: "\(member.id) applies \(entry.index) out of order")
    }
    member.applied.append(entry)
    let place = member.applied.count - 1
    if place == decided.count {
      decided.append(entry)
    } else if decided[place] != entry {
      throw Violation(
        description:
          "State Machine Safety: \(member.id) applies \(text(entry)), "
          + "another one \(text(decided[place]))")
    }
  }

  func sync(_ member: Member) throws {
    guard !member.writes.isEmpty else { return }
    let write = member.writes.removeFirst()
    member.disk.perform(write)
    guard let ticket = write.ticket else { return }
    note("\(member.id) has written \(ticket.sequence)")
    member.core?.persisted(ticket)
  }

  func deliver(_ message: Message) { member(message.to).core?.receive(message) }

  func answerLogRead(_ member: Member) {
    guard !member.logReads.isEmpty, let core = member.core else { return }
    let read = member.logReads.removeFirst()
    let entries = member.disk.entries.filter { $0.index >= read.from && $0.index <= read.through }
    let isThere = entries.first?.index == read.from && read.from >= core.firstIndex
    member.core!.entriesRead(LogReadAnswer(request: read, entries: isThere ? entries : nil))
  }

  func takeSnapshot(_ member: Member, keepFrom: LogIndex) {
    guard let core = member.core, let metadata = core.snapshotMetadata(at: core.applied),
      metadata.index > member.disk.snapshot.metadata.index
    else { return }
    member.disk.snapshot = Snapshot(metadata: metadata, content: member.applied)
    member.core!.snapshotTaken(metadata, keepFrom: keepFrom)
    member.disk.entries.removeAll { $0.index < member.core!.firstIndex }
    note("\(member.id) has a snapshot at \(metadata.index), log from \(member.core!.firstIndex)")
  }

  func finish(_ transfer: Transfer, succeeds: Bool) {
    let receiver = member(transfer.request.peer)
    var arrived = false
    if succeeds, receiver.core != nil,
      receiver.core!.snapshotOffered(
        transfer.snapshot.metadata, by: transfer.from, term: transfer.request.term)
    {
      receiver.disk.snapshot = transfer.snapshot
      receiver.applied = transfer.snapshot.content
      receiver.core!.snapshotInstalled(transfer.snapshot.metadata)
      if receiver.core!.firstIndex > transfer.snapshot.metadata.index {
        for place in receiver.writes.indices { receiver.writes[place].entries = [] }
        receiver.writes.append(Write(restartsLog: true, entries: []))
      }
      note("\(receiver.id) installs a snapshot at \(transfer.snapshot.metadata.index)")
      arrived = true
    }
    member(transfer.from).core?.snapshotSent(
      to: receiver.id, through: arrived ? transfer.snapshot.metadata.index : nil)
  }

  // MARK: Checks

  private func checkLeader(_ member: Member, term: Term) throws {
    if let other = leaders[term.rawValue], other != member.id {
      throw Violation(description: "Election Safety: term \(term) has \(other) and \(member.id)")
    }
    leaders[term.rawValue] = member.id
    let core = member.core!
    for entry in decided where entry.index >= core.firstIndex {
      guard core.term(at: entry.index) == entry.term else {
        throw Violation(
          description:
            "Leader Completeness: \(member.id), leader of term \(term), lacks \(text(entry))")
      }
    }
  }

  func checkLogs() throws {
    for (place, one) in members.enumerated() {
      guard let left = one.core else { continue }
      left.validate()
      for two in members[(place + 1)...] {
        guard let right = two.core else { continue }
        let start = max(left.log.tailFirst, right.log.tailFirst)
        var index = min(left.lastIndex, right.lastIndex)
        var agrees = false
        while index >= start {
          let same = left.log[index] == right.log[index]
          if same { agrees = true }
          if agrees || left.term(at: index) == right.term(at: index), !same {
            throw Violation(
              description: "Log Matching: \(one.id) and \(two.id) differ at \(index)")
          }
          index = index.previous
        }
      }
    }
  }

  func note(_ line: @autoclosure () -> String) { if traces { trace.append(line()) } }
}
