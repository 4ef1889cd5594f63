import EtcdWire
import Primitives

// The replicated state machine
// ============================
//
// The problem. Every member applies the same log and must arrive at the same state, whatever stands
// in the log; reads must see consistent states, old ones too, without stopping the writer; and the
// writer is the one thread through which all writes of a cluster go, so that a microsecond here is
// a limit on the cluster.
//
// The design. A store is a *root* (`Root`): four persistent trees and two revisions. `apply`
// changes the writer's root; `publish` freezes it as a `StoreView`, a value that any thread may
// read for as long as it likes, at no cost to the writer but memory. Apply batch, publish, answer:
// a reader sees whole batches.
//
// - A record is the encoded `mvccpb.KeyValue`, written once, when its command is applied. Ranges,
//   watches and snapshots copy those bytes.
// - The newest record of each key is in the *live* tree, what it superseded in the *history*, so
//   that the state at any uncompacted revision can be read. The *events* tree has every record by
//   its revision, for watchers that catch up; a deletion's record is a tombstone, in history and
//   events.
// - Revisions are etcd's: a new store is at 1; a transaction that changes anything takes the next
//   one, and all its changes carry it.
//
// Apply is *total*. What a quorum has committed, each member must get through in the same way, or
// one bad entry would stop them all, again after each restart. So nothing in an entry may trap,
// overflow or recurse without bound: requests are read by checked readers that limit nesting, and
// each command either changes the state as a whole or, found wanting before its first change,
// answers an `ApplyError` and changes nothing. Nothing depends on anything but the entries: no
// clock, no order of hash tables.
//
// The *state hash* is over each logical change, in order: every record, lease change and
// compaction. Two members that applied the same entries have the same hash; members compare it to
// find corruption.
//
// A worked example, from a new store:
//
//     put a=1       revision 2   live a@2                  history -            events a@2
//     put a=2       revision 3   live a@3                  history a@2          events a@2 a@3
//     delete a      revision 4   live -                    history a@2 a@3 a@4† events a@2 a@3 a@4†
//     compact 3     revision 4   reads below 3 fail; in time a@2 goes from history and events
//     compact 4     revision 4   in time a@3 goes; the tombstone's event stays for watchers from 4 on
//
// Compaction is logical at once and physical in slices (`Store+Maintenance.swift`). Logical state
// alone decides results, hashes and snapshots.
//
// A store is a class because it owns memory outside of Swift's reference counts (`Arena`): a copy
// would be a second writer of the same nodes. It is not thread-safe: one thread at a time applies,
// publishes and maintains.
//
// What is left out: deadlines of leases, which are the leader's (`Replica`); admission and quota,
// which come before the log; alarms, whose commands come with kinds of their own.

/// The key-value state that the log of a cluster leads to. See the essay above.
public final class Store {
  var root: Root
  let arena: Arena
  /// Users and roles. Not in `root`, whose trees the arena owns: this is an ordinary value.
  var auth = AuthState()
  /// See ``StoreView/stateHash``.
  public internal(set) var stateHash: UInt64
  /// The newest entry applied.
  public internal(set) var appliedIndex: LogIndex

  /// Published views that a reader may hold, oldest first; `arena` counts them in the same order.
  private var views: [PublishedRoot] = []
  /// What the store refuses: set from the alarms, which stand in the log too.
  public var refusals: Refusals = []
  /// Where physical compaction stands.
  var compaction = CompactionProgress()

  /// An empty store at revision 1.
  public convenience init() {
    self.init(root: Root(), arena: Arena(), stateHash: 0, appliedIndex: .zero)
  }

  init(root: Root, arena: Arena, stateHash: UInt64, appliedIndex: LogIndex) {
    self.root = root
    self.arena = arena
    self.stateHash = stateHash
    self.appliedIndex = appliedIndex
  }

  deinit { arena.abandon(root) }

  /// The revision of the newest transaction.
  public var revision: Revision { Revision(root.revision) }
  /// The lowest revision that can be read; -1 before the first compaction.
  public var compactRevision: Revision { Revision(root.compactRevision) }

  /// Bytes held by records, history, tree nodes and leases, those included that only older views
  /// still show. For the quota; it differs between members, which compact and free at their own
  /// pace.
  public var allocatedBytes: Int { arena.allocatedBytes }

  /// Freezes the state as a view for readers.
  ///
  /// O(views in use). Also notices which earlier views are no longer in use, and frees some of what
  /// they alone had kept; `runMaintenance` frees the rest.
  public func publish() -> StoreView {
    if let newest = views.last, newest.appliedIndex == appliedIndex,
      newest.root.isSame(as: root)
    {
      // Nothing new, but perhaps readers have left since.
      dropUnusedViews()
      return StoreView(newest)
    }
    let published = PublishedRoot(
      root: root, auth: auth, arena: arena, stateHash: stateHash, appliedIndex: appliedIndex)
    arena.published(revision: root.revision)
    views.append(published)
    dropUnusedViews()
    _ = arena.reclaim(budget: Limits.reclaimedPerPublish)
    return StoreView(published)
  }

  /// Notices which views no reader has any more. O(views in use).
  func dropUnusedViews() {
    // A view to which only this array refers has no reader, and none can come by it any more. The
    // newest one stays: the caller is about to hand it out.
    var index = 0
    while index < views.count - 1 {
      if isKnownUniquelyReferenced(&views[index]) {
        views.remove(at: index)
        arena.dropped(viewAt: index)
      } else {
        index += 1
      }
    }
  }

  /// The revision of the newest view, up to which events may be compacted physically.
  var publishedRevision: Int64 { views.last?.root.revision ?? -1 }

  /// How many published views are in use, the newest included.
  var viewCount: Int { views.count }
}

/// What a view refers to: a frozen root, and the memory it lies in.
///
/// `@unchecked Sendable`: a root holds addresses, which Swift can't vouch for. They may be read
/// from any thread because (1) `Arena` never changes a node, record or lease entry that was made
/// before the view was published, (2) it frees none that the view shows while anything but the
/// store's own list refers to this object, and (3) publication happens before any reader's access,
/// since readers get the view through a lock or a thread's start. All stored properties are
/// constants.
final class PublishedRoot: @unchecked Sendable {
  let root: Root
  let auth: AuthState
  /// Keeps the memory alive should the store end before the view.
  let arena: Arena
  let stateHash: UInt64
  let appliedIndex: LogIndex

  init(
    root: Root, auth: AuthState, arena: Arena, stateHash: UInt64, appliedIndex: LogIndex
  ) {
    self.root = root
    self.auth = auth
    self.arena = arena
    self.stateHash = stateHash
    self.appliedIndex = appliedIndex
  }
}
