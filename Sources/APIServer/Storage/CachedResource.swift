import Primitives

/// What the cache holds of one resource: its objects, its last events, and who waits for the next ones.
struct CachedResource {
  /// In the order of their keys.
  var objects: [StoredObject] = []
  /// In the order of their revisions.
  var events: [WatchCache.Event] = []
  /// Watches must begin at or after this revision.
  var oldest = Revision.zero
  var buckets: [WatchCache.Bucket: [ObjectIdentifier: Watcher]] = [:]

  var watchers: [Watcher] { buckets.values.flatMap(\.values) }

  /// Takes in a change: nil for `object` is a deletion.
  ///
  /// O(log n) and a move of what lies behind; then one look-up for each place where a watcher may wait.
  ///
  /// - Parameter ended: gets the watchers whose queue is full; they are out of the buckets already.
  mutating func apply(
    key: String, object: StoredObject?, revision: Revision, ended: inout [Watcher]
  ) {
    let position = objects.position(of: key)
    let event: WatchCache.Event
    if let object {
      if position.isFound {
        let previous = objects[position.index]
        objects[position.index] = object
        event = WatchCache.Event(
          revision: revision, object: object, previous: previous, isDeletion: false)
      } else {
        objects.insert(object, at: position.index)
        event = WatchCache.Event(
          revision: revision, object: object, previous: nil, isDeletion: false)
      }
    } else {
      guard position.isFound else { return }
      let previous = objects.remove(at: position.index)
      event = WatchCache.Event(
        revision: revision, object: StoredObject(previous, revision: revision), previous: previous,
        isDeletion: true)
    }
    events.append(event)
    if events.count > 2 * WatchCache.Limits.eventsPerResource {
      // Halved at once, so that dropping is cheap on average.
      let dropped = events.count - WatchCache.Limits.eventsPerResource
      oldest = events[dropped - 1].revision
      events.removeFirst(dropped)
    }
    var places: [WatchCache.Bucket] = [
      .everything, .namespace(event.object.namespace),
      .name(namespace: event.object.namespace, name: event.object.name),
    ]
    if let node = event.object.fields["spec.nodeName"], !node.isEmpty {
      places.append(.node(node))
    }
    if let node = event.previous?.fields["spec.nodeName"], !node.isEmpty,
      node != event.object.fields["spec.nodeName"]
    {
      places.append(.node(node))
    }
    for bucket in places {
      for (id, watcher) in buckets[bucket] ?? [:] where !watcher.offer(event) {
        buckets[bucket]?[id] = nil
        ended.append(watcher)
      }
    }
  }
}

extension [StoredObject] {
  /// Where `key` is, or would be. O(log n).
  func position(of key: String) -> (index: Int, isFound: Bool) {
    var low = 0
    var high = count
    while low < high {
      let middle = (low + high) / 2
      // Swift orders strings by Unicode's canonical order; the store orders bytes.
      if self[middle].key.utf8.lexicographicallyPrecedes(key.utf8) {
        low = middle + 1
      } else {
        high = middle
      }
    }
    return (low, low < count && self[low].key == key)
  }
}

extension [WatchCache.Event] {
  /// The events behind a revision. O(log n).
  func suffix(after revision: Revision) -> ArraySlice<WatchCache.Event> {
    var low = 0
    var high = count
    while low < high {
      let middle = (low + high) / 2
      if self[middle].revision <= revision { low = middle + 1 } else { high = middle }
    }
    return self[low...]
  }
}
