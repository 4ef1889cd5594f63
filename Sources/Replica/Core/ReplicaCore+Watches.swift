import MVCC
import Primitives

// Watchers stand at the writer, so that a watcher and the first event after it have one order.

/// The watchers of this member, and where their events go.
struct WatchTable {
  private var registry = WatchRegistry()
  private var sinks: [WatcherID: any ReplySink] = [:]

  var count: Int { sinks.count }

  mutating func insert(_ request: WatchRequest, sink: any ReplySink) -> WatcherID {
    let id = registry.register(
      request.range, filter: request.filter, wantsPrevious: request.wantsPrevious)
    sinks[id] = sink
    return id
  }

  mutating func remove(_ id: WatcherID) {
    if sinks.removeValue(forKey: id) != nil { registry.cancel(id) }
  }

  /// Tells every sink that its watchers missed events that are compacted away, and forgets them.
  mutating func loseAll(compacted revision: Revision, into effects: inout Effects) {
    var told: [any ReplySink] = []
    for (id, sink) in sinks {
      registry.cancel(id)
      guard !told.contains(where: { $0 === sink }) else { continue }
      told.append(sink)
      effects.deliver(Reply(token: 0, outcome: .watchesLost(compacted: revision)), to: sink)
    }
    sinks = [:]
  }

  /// Delivers the events of `batch`, which `view` holds, to the sinks of the watchers that they concern.
  ///
  /// Watchers that get the same events share their encoding; each sink gets the part of the list of
  /// watchers that is its own.
  mutating func match(_ batch: EventBatch, in view: StoreView, into effects: inout Effects) {
    guard !sinks.isEmpty else { return }
    var bySink: [(sink: any ReplySink, deliveries: [WatchDelivery])] = []
    for delivery in registry.match(batch, in: view) {
      // Where this delivery stands in each sink's list, so that its watchers are gathered in one.
      var places: [(sink: Int, delivery: Int)] = []
      for watcher in delivery.watchers {
        guard let sink = sinks[watcher] else { continue }
        if let place = places.first(where: { bySink[$0.sink].sink === sink }) {
          bySink[place.sink].deliveries[place.delivery].watchers.append(watcher)
          continue
        }
        let position: Int
        if let known = bySink.firstIndex(where: { $0.sink === sink }) {
          position = known
        } else {
          bySink.append((sink, []))
          position = bySink.count - 1
        }
        places.append((position, bySink[position].deliveries.count))
        bySink[position].deliveries.append(
          WatchDelivery(watchers: [watcher], events: delivery.events))
      }
    }
    for item in bySink {
      effects.deliver(Reply(token: 0, outcome: .events(item.deliveries)), to: item.sink)
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
    let start = request.startRevision
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
    effects.deliver(Reply(token: token, outcome: .progress(store.revision)), to: sink)
  }
}
