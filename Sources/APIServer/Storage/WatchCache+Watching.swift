import KubeAPI
import Primitives
import Synchronization

/// How clients watch the cache.
extension WatchCache {
  enum WatchStart: Sendable {
    /// Only what comes after this revision.
    case after(Revision)
    /// First every object that there is, as ADDED; then what comes.
    case now
  }

  /// Begins a watch.
  ///
  /// - Parameter matches: the selectors, over what `StoredObject` keeps for them.
  /// - Returns: nil where the start lies before what is kept: the client must list again.
  func watch(
    prefix: String, bucket: Bucket, from start: WatchStart,
    matches: @escaping @Sendable (StoredObject) -> Bool
  ) -> Watcher? {
    let watcher = Watcher(bucket: bucket, matches: matches)
    return state.withLock { state in
      switch start {
      case .now:
        for object in state.resources[prefix]?.objects ?? []
        where bucket.contains(object) && matches(object) {
          watcher.enqueueInitial(object)
        }
        watcher.endInitial(at: state.revision)
      case .after(let revision):
        guard state.isReady, revision >= state.resources[prefix]?.oldest ?? .zero else {
          return nil
        }
        // Events are in the order of their revisions.
        for event in (state.resources[prefix]?.events ?? []).suffix(after: revision)
        where bucket.contains(event.object) || event.previous.map(bucket.contains) == true {
          if !watcher.offer(event) { return nil }
        }
      }
      // In place: a copy would cost as much as there are watchers.
      state.resources[prefix, default: CachedResource()]
        .buckets[bucket, default: [:]][ObjectIdentifier(watcher)] = watcher
      return watcher
    }
  }

  func stop(_ watcher: Watcher, prefix: String) {
    state.withLock { state in
      state.resources[prefix]?.buckets[watcher.bucket]?[ObjectIdentifier(watcher)] = nil
      if state.resources[prefix]?.buckets[watcher.bucket]?.isEmpty == true {
        state.resources[prefix]?.buckets[watcher.bucket] = nil
      }
    }
    watcher.end()
  }

  /// Queues a bookmark behind everything up to the cache's revision.
  func bookmark(_ watcher: Watcher) {
    // Under the lock, so that no event with a smaller revision can follow.
    state.withLock { watcher.enqueueBookmark(at: $0.revision) }
  }
}

extension WatchCache.Bucket {
  func contains(_ object: StoredObject) -> Bool {
    switch self {
    case .everything: true
    case .namespace(let namespace): object.namespace == namespace
    case .name(let namespace, let name): object.namespace == namespace && object.name == name
    case .node(let node): object.fields["spec.nodeName"] == node
    }
  }
}
