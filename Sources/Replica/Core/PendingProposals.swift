import MVCC
import Primitives

/// The proposals of this member's own clients that have not been answered yet.
///
/// One element stands for one log entry: the commands that were drained together. It is found again by
/// the sequence number of its first command, which the entry carries through the log.
struct PendingProposals {
  struct Entry {
    let firstSequence: UInt64
    let count: Int
    let bytes: Int
    /// Which commands came from which event loop, in the entry's order.
    let parts: [Part]
    let deadline: Instant
    /// The leader at the time of proposing: if it changed, a time-out says so.
    let leader: NodeID?
  }

  struct Part {
    let sink: any ReplySink
    let tokens: [UInt64]
  }

  private var entries: [UInt64: Entry] = [:]
  /// First sequences in order of proposing, which is the order of deadlines. Answered ones are skipped.
  private var order: [UInt64] = []
  private var orderStart = 0
  private(set) var commands = 0
  private(set) var bytes = 0

  mutating func insert(_ entry: Entry) {
    entries[entry.firstSequence] = entry
    order.append(entry.firstSequence)
    commands += entry.count
    bytes += entry.bytes
  }

  /// Takes out the entry that starts at `firstSequence`, if it still waits.
  mutating func take(_ firstSequence: UInt64) -> Entry? {
    guard let entry = entries.removeValue(forKey: firstSequence) else { return nil }
    commands -= entry.count
    bytes -= entry.bytes
    trimOrder()
    return entry
  }

  /// Takes out every entry whose deadline has come.
  mutating func takeExpired(at now: Instant) -> [Entry] {
    var expired: [Entry] = []
    while orderStart < order.count {
      let sequence = order[orderStart]
      if let entry = entries[sequence] {
        guard entry.deadline <= now else { break }
        expired.append(entry)
        entries[sequence] = nil
        commands -= entry.count
        bytes -= entry.bytes
      }
      orderStart += 1
    }
    return expired
  }

  private mutating func trimOrder() {
    while orderStart < order.count, entries[order[orderStart]] == nil { orderStart += 1 }
    if orderStart > 1024, orderStart * 2 > order.count {
      order.removeFirst(orderStart)
      orderStart = 0
    }
  }
}
