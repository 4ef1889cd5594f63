import Primitives

// Who frees what, and when
// ========================
//
// The problem. Readers on other threads walk trees that the writer goes on changing. Reference
// counts on nodes and records would make that safe, and slow: copying a node of 64 entries would
// touch 64 counters in 64 different records, each an atomic operation and a cache miss, thousands
// of nanoseconds to change one key. And the last reader to drop a large tree would free it all at
// once, on its own thread.
//
// The design. Nothing is counted but views. The writer works in *epochs*: publishing a view ends
// one. What was made in the current epoch is the writer's alone and is changed in place; everything
// older is frozen and is replaced by a changed copy. What is replaced is *retired*, not freed: an
// older view may still show it. A view shows a thing exactly if
//
//     it was made before the view was published, and retired after.
//
// So retired things are kept in lists, one for each view that may still be in use: the things
// retired while it was the newest. When a view is no longer in use, each thing on its list was
// visible to it; the thing is free if it was made after the view before, else that view's list
// inherits it. Each thing is looked at once for each view in use that it outlives, and usually just
// once.
//
// A worked example. Views 1, 2 and 3 are published; node A was made before 1, B between 1 and 2.
// After 3, the writer changes both: A and B go on 3's list. View 3 is dropped: both were made
// before 2, so 2's list inherits them. View 2 is dropped: B was made after 1 and is freed, A goes
// on 1's list. View 1 is dropped: there is none before it, A is freed.
//
// Lists of dropped views wait in a queue and are worked through in bounded slices by the writer, so
// a reader that held on to an old view for minutes costs no pause when it lets go. Nodes go to a
// free list and are used again, so that in steady state the tree neither allocates nor frees.
//
// What views are in use, the writer finds out by itself: it keeps a reference to each published
// view, and a view to which no other reference exists has no reader (`Store.publish`). Readers do
// nothing but hold theirs.
//
// Epoch and birth. Nodes and lease entries carry the epoch that made them. Records carry their mod
// revision instead, which orders them among views just as well: a view shows no record above its
// revision.
//
// What is left out: compaction of memory. Records are allocated one by one, and the system's
// allocator gets them back one by one.

/// The memory of one store's trees: allocates nodes, and frees what no view shows any more.
///
/// Owned by the store and by every view of it. All methods are the writer's; the last owner's
/// release frees what is left.
final class Arena {
  /// The epoch of what is being made now.
  private(set) var epoch: UInt64 = 1
  /// Bytes of records, nodes and lease entries that have not been freed.
  private(set) var allocatedBytes = 0

  /// One published view that may be in use, and what was retired while it was the newest.
  private struct Generation {
    let epoch: UInt64
    let revision: Int64
    var retired = Retired()
  }

  private struct Retired {
    var nodes: [Node] = []
    var records: [Record] = []
    var leases: [LeaseEntry] = []
    var isEmpty: Bool { nodes.isEmpty && records.isEmpty && leases.isEmpty }
    var count: Int { nodes.count + records.count + leases.count }
  }

  /// Views that may be in use, oldest first.
  private var generations: [Generation] = []
  /// The newest generation's epoch, revision and list, outside `generations` for speed.
  private var newestEpoch: UInt64 = 0
  private var newestRevision: Int64 = -1
  private var newest = Retired()
  /// Lists of dropped views; what they hold is invisible to every view after `epoch`.
  private var dropped: [Generation] = []
  /// How many retired things wait in `dropped`.
  private(set) var droppedCount = 0

  /// Freed nodes for reuse, leaves and inner ones.
  private var freeLeaves: [UnsafeMutableRawPointer] = []
  private var freeInners: [UnsafeMutableRawPointer] = []
  /// More free nodes than this of a kind are given back to the system.
  private static let freeNodesMaximum = 4096

  /// What the store held when it ended; the trees of the last epoch.
  private var remains: Root?

  // MARK: Making and freeing

  func makeNode(height: Int) -> Node {
    let address: UnsafeMutableRawPointer
    if height == 0 {
      address =
        freeLeaves.popLast() ?? .allocate(byteCount: Node.leafSize, alignment: 8)
      allocatedBytes &+= Node.leafSize
    } else {
      address =
        freeInners.popLast() ?? .allocate(byteCount: Node.innerSize, alignment: 8)
      allocatedBytes &+= Node.innerSize
    }
    return Node.initialize(address, height: height, epoch: epoch)
  }

  private func free(_ node: Node) {
    if node.isLeaf {
      allocatedBytes &-= Node.leafSize
      if freeLeaves.count < Arena.freeNodesMaximum {
        freeLeaves.append(node.address)
        return
      }
    } else {
      allocatedBytes &-= Node.innerSize
      if freeInners.count < Arena.freeNodesMaximum {
        freeInners.append(node.address)
        return
      }
    }
    node.address.deallocate()
  }

  /// Takes note of a record that was just made.
  @inline(__always) func adopt(_ record: Record) { allocatedBytes &+= record.allocatedSize }

  private func free(_ record: Record) {
    allocatedBytes &-= record.allocatedSize
    record.deallocate()
  }

  func makeLease(id: Int64, granted: Int64, remaining: Int64) -> LeaseEntry {
    allocatedBytes &+= LeaseEntry.size
    return LeaseEntry.make(id: id, granted: granted, remaining: remaining, epoch: epoch)
  }

  private func free(_ lease: LeaseEntry) {
    allocatedBytes &-= LeaseEntry.size
    lease.address.deallocate()
  }

  // MARK: Changing

  /// A node that may be changed in place: `node` itself if it is of this epoch, else a copy of it.
  @inline(__always)
  func writable(_ node: Node) -> Node {
    node.epoch == epoch ? node : copy(node)
  }

  @inline(never)
  private func copy(_ node: Node) -> Node {
    let copy = makeNode(height: node.height)
    copy.copyContents(of: node)
    retire(node)
    return copy
  }

  /// A lease entry that may be changed in place.
  func writable(_ lease: LeaseEntry) -> LeaseEntry {
    if lease.epoch == epoch { return lease }
    let copy = makeLease(id: lease.id, granted: lease.granted, remaining: lease.remaining)
    copy.keys = lease.keys
    retire(lease)
    return copy
  }

  // MARK: Retiring

  func retire(_ node: Node) {
    if node.epoch > newestEpoch { free(node) } else { newest.nodes.append(node) }
  }

  func retire(_ record: Record) {
    if record.modRevision > newestRevision { free(record) } else { newest.records.append(record) }
  }

  func retire(_ lease: LeaseEntry) {
    if lease.epoch > newestEpoch { free(lease) } else { newest.leases.append(lease) }
  }

  // MARK: Views

  /// Ends the epoch: a view of everything up to now has been published.
  func published(revision: Int64) {
    if newestEpoch > 0 { generations[generations.count - 1].retired = newest }
    generations.append(Generation(epoch: epoch, revision: revision))
    newest = Retired()
    newestEpoch = epoch
    newestRevision = revision
    epoch += 1
  }

  /// The view at `index`, counted from the oldest in use, is no longer used. Never the newest.
  func dropped(viewAt index: Int) {
    invariant(index < generations.count - 1, "the newest view was dropped")
    let generation = generations.remove(at: index)
    if !generation.retired.isEmpty {
      droppedCount += generation.retired.count
      dropped.append(generation)
    }
  }

  /// Frees, or hands on to older views, at most `budget` things that dropped views had kept.
  ///
  /// - Returns: how many.
  func reclaim(budget: Int) -> Int {
    var done = 0
    while done < budget, let index = dropped.indices.last {
      // The newest view in use that is older than the dropped one inherits.
      let heir = generations.lastIndex { $0.epoch < dropped[index].epoch }
      let heirEpoch = heir.map { generations[$0].epoch } ?? 0
      let heirRevision = heir.map { generations[$0].revision } ?? -1
      while done < budget, let node = dropped[index].retired.nodes.popLast() {
        done += 1
        if node.epoch <= heirEpoch, let heir {
          generations[heir].retired.nodes.append(node)
        } else {
          free(node)
        }
      }
      while done < budget, let record = dropped[index].retired.records.popLast() {
        done += 1
        if record.modRevision <= heirRevision, let heir {
          generations[heir].retired.records.append(record)
        } else {
          free(record)
        }
      }
      while done < budget, let lease = dropped[index].retired.leases.popLast() {
        done += 1
        if lease.epoch <= heirEpoch, let heir {
          generations[heir].retired.leases.append(lease)
        } else {
          free(lease)
        }
      }
      if dropped[index].retired.isEmpty { dropped.removeLast() }
    }
    droppedCount -= done
    return done
  }

  // MARK: The end

  /// The store has ended with these trees; views may live on.
  func abandon(_ root: Root) { remains = root }

  /// Frees everything, for no view and no store is left to see it.
  deinit {
    freeAll(in: newest)
    for generation in generations { freeAll(in: generation.retired) }
    for generation in dropped { freeAll(in: generation.retired) }
    if let remains {
      remains.live.forEachElement { Record(address: $0).deallocate() }
      remains.history.forEachElement { Record(address: $0).deallocate() }
      remains.leases.forEachElement { address in
        let lease = LeaseEntry(address: address)
        lease.keys.forEachNode { $0.address.deallocate() }
        address.deallocate()
      }
      for tree in [remains.live, remains.history, remains.events, remains.leases] {
        tree.forEachNode { $0.address.deallocate() }
      }
    }
    for address in freeLeaves { address.deallocate() }
    for address in freeInners { address.deallocate() }
  }

  private func freeAll(in retired: Retired) {
    for node in retired.nodes { node.address.deallocate() }
    for record in retired.records { record.deallocate() }
    for lease in retired.leases { lease.address.deallocate() }
  }
}
