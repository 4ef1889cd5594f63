import Primitives
import Raft

// The write-ahead log: what a member has promised never to forget.
//
// Problem. A member may acknowledge entries and votes only once they survive a loss of power. On the
// disks we measured a synced write costs 120 µs if it changes nothing but data, and twice that if the
// file grows. After a crash the file may hold any part of the last, unsynced write; over years it may
// also lose bytes that *were* synced. The first is ordinary and must be cut off; the second must never
// be mistaken for it, or an acknowledged entry disappears without a word.
//
// Design. The log is a row of segment files of equal size, allocated and written with zeros ahead of
// time, so that appending changes data only and a full disk is met while preparing, not while
// acknowledging. `append` encodes a whole Raft batch as ONE record and describes one write and one
// fdatasync; nothing else happens on the write path. Batch n+1 is written only after n is synced, so at
// most one batch can be torn.
//
//   segment 7                                   segment 8 (being written)
//   ┌────────┬───────┬───────┬─────────┬──────┐ ┌────────┬───────┬───────┬──────────────────────┐
//   │ header │ batch │ batch │  batch  │ old  │ │ header │ batch │ batch │ zeros, or bytes of   │
//   │  gen 7 │       │       │         │ junk │ │  gen 8 │       │       │ an earlier use       │
//   └────────┴───────┴───────┴─────────┴──────┘ └────────┴───────┴───────┴──────────────────────┘
//
// A released segment is used again as it is, without being renamed or cleared. What tells new bytes
// from old is the *generation*: each use of a file gets the next number, written in the header, and
// every batch's CRC-32C starts from the generation and the batch's offset. A batch of an earlier use, or
// a copy of a batch inside some client's value, doesn't validate. The batch also carries the checksum of
// the batch before it, and a header that of the last batch of the segment before, so the batches form
// one chain across files in which nothing can be missing.
//
// Torn or corrupt. Recovery walks the chain. Where a batch doesn't validate it searches the rest of the
// segment for one that does: none means that the write in flight was torn (or that the log simply ends
// here); one means that a batch *after* the bad one was synced, so the bad one was durable once:
// corruption, an error with file and offset. A segment that has a successor must lead to it by the
// chain. A header that doesn't validate in front of batches that do is corruption too.
// The one case that no log can tell from a torn write is damage to the very last batch.
//
// After a failed fdatasync the kernel may hold, and show to the next process, bytes that never reached
// the disk. So a failure stops the log for good, and recovery writes the last batch that it found
// again and syncs it before anybody relies on it.
//
// Truncation needs no record: a batch whose first index is at or below the last index replaces all from
// there. Only when a snapshot from the leader overtakes the log does a batch carry a *base*: everything
// up to it is void, the log continues behind it.
//
// Worked example. Entries 1...3 of term 1 are appended, then 4; a new leader replaces 3; the member then
// crashes while appending 4 again:
//
//   batch 1...3 | batch 4...4 | batch 3...3 (term 2) | 4...   <- torn
//   recovered: 1 2 (term 1), 3 (term 2); writing goes on over the torn batch.
//
// Partly filled pages are written again, not padded: batches follow each other at multiples of 8 bytes,
// and the page in which the log ends is in the page cache anyway. Padding each batch to 4 KiB showed no
// gain (Docs/Formats/WAL.md) and would make the log of single puts eleven times as long. Bytes that
// are written again are the same bytes, so tearing that page can't hurt the batches before.
//
// Left out: encryption, remote logs, more than one writer; and io_uring and O_DIRECT, which measured no
// gain. Repair from peers belongs to the member, which starts with an empty directory.

/// The state machine of a member's log. It never blocks: what must happen on disk it returns as jobs.
///
/// - One log writer performs the jobs of ``append(hardState:entries:)`` and
///   ``restart(after:term:hardState:)`` one at a time, in order, and hands each result to
///   ``completed(_:)``. Further batches may be encoded meanwhile.
/// - Jobs of ``takeMaintenance()`` and ``readJob(from:through:maxBytes:)`` may run on other threads.
///
/// The value must not be copied and both copies used: they would share batch buffers.
public struct WriteAheadLog: Sendable {
  /// A segment file in use.
  struct Segment: Sendable {
    var path: String
    var generation: UInt64
    var capacity: UInt64
  }

  /// A run of batches, next to each other in one segment, that hold consecutive entries.
  struct Extent: Sendable {
    var first: LogIndex
    /// The last entry that is still valid; later ones in these batches were replaced.
    var last: LogIndex
    var path: String
    var generation: UInt64
    /// Where the first batch starts and the last one ends, in bytes.
    var start: UInt64
    var end: UInt64
    /// Nothing may be added: later entries of the last batch were replaced.
    var isSealed: Bool
  }

  /// A batch handed out to be written.
  struct Append: Sendable {
    var ticket: DiskTicket
    var generation: UInt64
    /// The entries in it; nil for hard state alone.
    var entries: ClosedRange<LogIndex>?
    /// The log's base, if the batch sets one.
    var base: LogIndex?
    /// Whether it makes earlier entries void.
    var replaces: Bool
    var buffer: DiskBuffer
  }

  /// Background work handed out.
  enum Maintenance: Sendable {
    case prepare(path: String)
    case remove(paths: [String])
  }

  let directory: String
  public let identity: LogIdentity
  let settings: LogSettings

  // MARK: The log

  /// Segments that hold the log, oldest first; the last is written to. Never empty; their generations
  /// are consecutive.
  var segments: [Segment]
  /// Where the next batch goes in the last segment: a multiple of 8.
  var writeOffset: UInt64
  /// The checksum of the last batch.
  var chain: UInt32
  /// Where entries lie, by ascending and adjacent index; the segments ascend with them.
  var extents: [Extent]
  /// The last entry handed out to be written, and its term.
  public internal(set) var lastIndex: LogIndex
  public internal(set) var lastTerm: Term
  /// The last entry known to be on disk; at most `lastIndex`.
  public internal(set) var durableIndex: LogIndex
  /// The latest hard state handed out to be written.
  public internal(set) var hardState: HardState

  /// Entries through here may go.
  var releasable: LogIndex
  /// The newest segment that is known to hold a batch on disk, and so the header that makes older
  /// segments' hard state superfluous.
  var durableGeneration: UInt64

  // MARK: Jobs

  var nextTicket: UInt64
  /// Batches handed out and not completed, in order.
  var appends: [Append]
  var maintenance: (ticket: DiskTicket, work: Maintenance)?
  /// Buffers of completed batches.
  var buffers: [DiskBuffer]
  /// The error that stopped the log.
  public internal(set) var failure: PersistenceError?

  // MARK: Segments to come

  /// Files ready for use, in the order of their use.
  var spares: [String]
  /// The number in the name of the next new file.
  var nextFile: UInt64
  /// Released files that are not worth keeping.
  var removals: [String]
  /// Why the last attempt to prepare a segment failed; until ``retryMaintenance()`` there is no other.
  public internal(set) var preparationFailure: PersistenceError?

  /// The first entry that can be read back; one past `lastIndex` if there is none.
  public var firstIndex: LogIndex { extents.first?.first ?? lastIndex.next }

  /// Bytes that the log holds on disk in segments in use; what snapshots would let go.
  public var bytesInUse: UInt64 {
    var sum = writeOffset
    for segment in segments.dropLast() { sum &+= segment.capacity }
    return sum
  }

  /// Whether only the reserve is left and preparing more failed: refuse clients' writes, and keep the
  /// rest of the space for votes, membership changes and deletions.
  public var isSpaceLow: Bool {
    preparationFailure != nil && spares.count < settings.preparedSegments
  }

  /// Whether batches are on their way to disk.
  public var isWriting: Bool { !appends.isEmpty }
}

/// What a log held at start.
public struct RecoveredLog: Sendable {
  public var identity: LogIdentity
  /// Whether the directory was empty and a new log was made. Beside a snapshot of a member that ran
  /// before, that means that its votes are lost: only a restored or new member may go on.
  public var isNew: Bool
  public var hardState: HardState
  /// The entries after the snapshot, consecutive.
  public var entries: [Entry]
  /// The terms of the entries on disk at and before the snapshot, which can be read back.
  public var olderTerms: [TermRun]
  /// The first entry on disk; one past `lastIndex` if there is none.
  public var firstIndex: LogIndex
  /// The last entry; the snapshot's if there is none after it.
  public var lastIndex: LogIndex
  public var lastTerm: Term
  /// Where the last batch lies, nil in a new log. Damage there can't be told from a torn write, so those who put
  /// damage in must know it.
  package var lastBatch: LastBatch?

  package struct LastBatch: Sendable {
    package var path: String
    /// Its first byte, or that of the segment's header that was written along with it.
    package var offset: UInt64
  }
}
