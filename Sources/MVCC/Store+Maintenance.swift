import EtcdWire
import Primitives

// Compaction
// ==========
//
// `compact(r)` makes everything below revision r unreadable at once, by raising a number. What
// became unreadable is then removed in slices, between the batches of the log, by walking through
// the events from the oldest on. An event of key k at revision e <= r superseded what k had before,
// so all older versions of k in the history can go: each event costs one search and removes, in
// all, as many versions as there were. Nothing is scanned in vain, and nothing is looked at twice.
//
// What an event below r itself is good for ends there too: its entry in the events tree goes, and
// with it the record, if it is a tombstone or was superseded within its own transaction. Any other
// record is still live, or is in the history until the walk comes to the event that superseded it.
//
// Events at r itself stay, for watchers may start there, so the walk goes over them but leaves
// them; the next compaction removes them. A record is thus removed at its own event or at a later
// one, never before, and the walk never meets a record that is gone.
//
// The walk ends at the newest published view: the events of a batch are read from the view that is
// published after it, and must still be there.

/// Where physical compaction stands.
struct CompactionProgress {
  /// The compact revision that `passed` belongs to.
  var target: Int64 = -1
  /// How many events at `target` itself have been gone over. They are the first ones of the tree.
  var passed = 0
}

extension Store {
  /// Makes revisions below `revision` unreadable.
  func compact(_ revision: Int64) throws(ApplyError) {
    if revision <= root.compactRevision { throw .compacted }
    if revision > root.revision { throw .futureRevision }
    root.compactRevision = revision
    mix(.compact, UInt64(bitPattern: revision))
  }

  /// Whether there is nothing left to remove for the last compaction.
  public var isCompactionFinished: Bool {
    if root.compactRevision < 0 { return true }
    if compaction.target != root.compactRevision { return false }
    let first = root.events.first()
    guard let record = first.record, record.modRevision <= root.compactRevision else {
      return true
    }
    guard record.modRevision == root.compactRevision else { return false }
    return compaction.passed >= root.events.rank(TreeKey(word: compactionEnd))
  }

  private var compactionEnd: UInt64 { UInt64(bitPattern: root.compactRevision &+ 1) }

  /// Does a slice of physical compaction and of freeing.
  ///
  /// - Parameter budget: about how many records to look at; a thousand take less than a
  ///   millisecond.
  /// - Returns: whether something is left that can be done now.
  @discardableResult
  public func runMaintenance(budget: Int) -> Bool {
    dropUnusedViews()
    let isCompacting = compactSlice(budget: budget)
    let freed = arena.reclaim(budget: budget)
    return isCompacting || (freed > 0 && arena.droppedCount > 0)
  }

  private func compactSlice(budget: Int) -> Bool {
    var target = root.compactRevision
    if target < 0 { return false }
    if compaction.target != target { compaction = CompactionProgress(target: target) }
    var end = min(target, publishedRevision)
    #if PLANTED_BUGS
      if PlantedBug.compactTooMuch.isPlanted {
        target += 3
        end = publishedRevision
      }
    #endif

    var left = budget
    var cursor = root.events.first()
    // Events below the target: each is the tree's first when it is looked at.
    while left > 0, let record = cursor.record, record.modRevision < target,
      record.modRevision <= end
    {
      removeVersions(before: record)
      root.events.remove(at: &cursor, arena)
      if record.isTombstone || record.isTransient { removeFromHistory(record) }
      left -= 1
      cursor = root.events.first()
    }
    #if PLANTED_BUGS
      if PlantedBug.compactUnderWatcher.isPlanted {
        while let record = cursor.record, record.modRevision <= target + 1, record.modRevision <= end {
          root.events.remove(at: &cursor, arena)
          cursor = root.events.first()
        }
      }
    #endif
    guard left > 0, let first = cursor.record else { return cursor.record != nil }
    guard first.modRevision == target, target <= end else { return false }

    // Events at the target stay; only what they superseded goes.
    cursor = root.events.element(atRank: compaction.passed)
    while left > 0, let record = cursor.record, record.modRevision == target {
      removeVersions(before: record)
      compaction.passed += 1
      left -= 1
      cursor.advance()
    }
    return cursor.record?.modRevision == target
  }

  /// Removes the versions of an event's key that are older than it from the history.
  private func removeVersions(before event: Record) {
    while let record = root.lastSuperseded(event.key, below: event.modRevision) {
      removeFromHistory(record)
    }
  }

  /// Removes a record from the history, if it is there, and gives its memory back.
  private func removeFromHistory(_ record: Record) {
    var cursor = root.history.seek(TreeKey(record.key, revision: record.modRevision))
    while let candidate = cursor.record, candidate.modRevision == record.modRevision,
      candidate.key.hasSameBytes(as: record.key)
    {
      if candidate == record {
        root.history.remove(at: &cursor, arena)
        #if PLANTED_BUGS
          if PlantedBug.leakyCompaction.isPlanted { return }
        #endif
        arena.retire(record)
        return
      }
      cursor.advance()
    }
  }
}
