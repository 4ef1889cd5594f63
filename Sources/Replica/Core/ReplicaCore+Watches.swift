import MVCC
import Primitives

// Watchers stand at the writer, so that a watcher and the first event after it have one order.

/// The watchers of this member, and where their events go.
struct WatchTable {
  private var registry = WatchRegistry()
  /// One an event loop, from its first watcher on.
  private var sinks: [any ReplySink] = []
  /// Whose the watcher of each slot is; of free slots, whose it was.
  private var sinkOfSlot: [Int] = []

  var count: Int { registry.count }

  mutating func insert(_ request: WatchRequest, sink: any ReplySink) -> WatcherID {
    let id = registry.register(
      request.range, filter: request.filter, wantsPrevious: request.wantsPrevious)
    let number = sinks.firstIndex { $0 === sink } ?? sinks.count
    if number == sinks.count { sinks.append(sink) }
    if id.slot == sinkOfSlot.count {
      sinkOfSlot.append(number)
    } else {
      sinkOfSlot[id.slot] = number
    }
    return id
  }

  mutating func remove(_ id: WatcherID) { registry.cancel(id) }

  /// Tells every sink that its watchers missed events that are compacted away, and forgets them.
  mutating func loseAll(compacted revision: Revision, into effects: inout Effects) {
    for sink in sinks {
      effects.deliver(Reply(token: 0, outcome: .watchesLost(compacted: revision)), to: sink)
    }
    registry.cancelAll()
  }

  /// Delivers the events of `batch`, which `view` holds, to the sinks of the watchers that they concern.
  ///
  /// Watchers that get the same events share their encoding; each sink gets the part of the list of
  /// watchers that is its own.
  mutating func match(_ batch: EventBatch, in view: StoreView, into effects: inout Effects) {
    guard registry.count > 0 else { return }
    var bySink = [[WatchDelivery]](repeating: [], count: sinks.count)
    for delivery in registry.match(batch, in: view) {
      if sinks.count == 1 {
        bySink[0].append(delivery)
        continue
      }
      // Where this delivery stands in each sink's list.
      var places = [Int](repeating: -1, count: sinks.count)
      for watcher in delivery.watchers {
        let sink = sinkOfSlot[watcher.slot]
        if places[sink] < 0 {
          places[sink] = bySink[sink].count
          bySink[sink].append(WatchDelivery(watchers: [], events: delivery.events))
        }
        bySink[sink][places[sink]].watchers.append(watcher)
      }
    }
    for (sink, deliveries) in zip(sinks, bySink) where !deliveries.isEmpty {
      effects.deliver(Reply(token: 0, outcome: .events(deliveries)), to: sink)
    }
  }
}

extension ReplicaCore {
  /// Sets up a watcher from `request.startRevision` on, or says why it can't stand here yet.
  ///
  /// A start in the past is only taken if nothing has happened since: the server reads the past from a
  /// view on its own thread, and asks again from where the view ends.
  public mutating func watch(_ request: WatchRequest, token: UInt64, sink: any ReplySink) {
    // Later entries of this pump may be applied and not published yet; they count as the present.
    let current = store.revision
    var start = request.startRevision
    #if PLANTED_BUGS
      if PlantedBug.watchFromNow.isPlanted { start = .zero }
    #endif
    #if PLANTED_BUGS
      if PlantedBug.silentCompaction.isPlanted, start > .zero, start < store.compactRevision {
        start = store.compactRevision
      }
    #endif
    if start > .zero, start < store.compactRevision {
      effects.deliver(
        Reply(token: token, outcome: .watchCompacted(store.compactRevision)), to: sink)
    } else if start > .zero, start <= current {
      effects.deliver(Reply(token: token, outcome: .watchBehind(store.publish())), to: sink)
    } else {
      let id = watches.insert(request, sink: sink)
      let after = start > current ? Revision(start.rawValue - 1) : current
      effects.deliver(Reply(token: token, outcome: .watching(id, after: after)), to: sink)
    }
  }

  public mutating func cancelWatch(_ id: WatcherID) { watches.remove(id) }

  /// Answers with the current revision, behind every event up to it.
  public mutating func requestProgress(token: UInt64, sink: any ReplySink) {
    var revision = store.revision
    #if PLANTED_BUGS
      if PlantedBug.progressAhead.isPlanted { revision = revision.next }
    #endif
    effects.deliver(Reply(token: token, outcome: .progress(revision)), to: sink)
  }
}
