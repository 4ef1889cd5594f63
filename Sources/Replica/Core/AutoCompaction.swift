import Primitives

/// Compaction without a client: what is older than a time, or than a number of revisions, goes.
///
/// Like etcd's: by revisions it looks every five minutes; by time it notes revisions ten times a period,
/// and compacts once a period, or once an hour where the period is longer, to the revision noted a period
/// ago. Only the leader does it; a new leader has noted nothing and begins to count.
///
/// Source: etcd's documentation, "Maintenance", "Auto Compaction".
struct AutoCompaction {
  enum Mode: Sendable, Equatable {
    case periodic(Duration)
    case revision(Int64)
  }

  let mode: Mode
  private var notes: [(time: Instant, revision: Int64)] = []
  private var nextNote: Instant?
  private var nextCompaction: Instant?
  /// The newest revision that was asked for.
  private var newest: Int64 = 0

  init(_ mode: Mode) { self.mode = mode }

  /// Notes of a longer period would be a memory of hours for nothing.
  static let notesPerPeriod: Int64 = 10
  static let revisionInterval = Duration.seconds(300)
  static let longestInterval = Duration.seconds(3_600)

  mutating func stop() {
    notes = []
    nextNote = nil
    nextCompaction = nil
  }

  /// The revision to compact to now; nil for none.
  mutating func tick(_ now: Instant, revision: Int64) -> Int64? {
    switch mode {
    case .revision(let kept):
      guard let due = nextCompaction else {
        nextCompaction = now.advanced(by: AutoCompaction.revisionInterval)
        return nil
      }
      guard now >= due else { return nil }
      nextCompaction = now.advanced(by: AutoCompaction.revisionInterval)
      return take(revision - kept)
    case .periodic(let period):
      return tickPeriodic(period, now, revision)
    }
  }

  private mutating func tickPeriodic(
    _ period: Duration, _ now: Instant, _ revision: Int64
  ) -> Int64? {
    if let nextNote, now < nextNote { return nil }
    let spacing = min(period, AutoCompaction.longestInterval) / AutoCompaction.notesPerPeriod
    nextNote = now.advanced(by: spacing)
    notes.append((now, revision))
    guard let due = nextCompaction else {
      nextCompaction = now.advanced(by: period)
      return nil
    }
    guard now >= due,
      let position = notes.lastIndex(where: { $0.time.advanced(by: period) <= now })
    else { return nil }
    nextCompaction = now.advanced(by: min(period, AutoCompaction.longestInterval))
    let target = notes[position].revision
    notes.removeFirst(position)
    return take(target)
  }

  private mutating func take(_ revision: Int64) -> Int64? {
    guard revision > newest, revision > 1 else { return nil }
    newest = revision
    return revision
  }
}
