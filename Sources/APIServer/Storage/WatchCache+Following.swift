import EtcdClient
import KubeAPI
import Logging
import Primitives
import Synchronization

/// How the cache is filled, and follows the store.
extension WatchCache {
  /// Fills the cache and follows the store until cancelled.
  func run() async {
    while !Task.isCancelled {
      do {
        let revision = try await fill()
        try await store.watch(.prefix(Array(root.utf8)), from: revision.next) { update in
          switch update {
          case .changes(let changes): apply(changes)
          case .progress(let revision): advance(to: revision)
          }
        }
      } catch is CancellationError {
        break
      } catch {
        if Task.isCancelled { break }
        // Compacted while we were away, or the store is unreachable: what we have may lie behind, so
        // watchers must list again once it is filled anew.
        logger.warning("following the store failed", metadata: ["error": "\(error)"])
        try? await Task.sleep(for: .milliseconds(200))
      }
    }
    stopWatching()
  }

  /// Reads everything at one revision, page by page.
  private func fill() async throws(StoreError) -> Revision {
    var query = StoreQuery(.prefix(Array(root.utf8)), limit: Limits.pageSize)
    var resources: [String: CachedResource] = [:]
    let layout = layout()
    var revision = Revision.zero
    while true {
      let page = try await store.read(query)
      if query.revision == nil {
        revision = page.revision
        query.revision = revision
      }
      for record in page.records {
        guard let (prefix, object) = makeObject(record, layout) else { continue }
        resources[prefix, default: CachedResource()].objects.append(object)
      }
      guard page.hasMore, let last = page.records.last else { break }
      query.range.first = last.key + [0]
    }
    for prefix in layout.prefixes {
      resources[prefix, default: CachedResource()].oldest = revision
    }
    // The store's order is the order of bytes, and so is the arrays'.
    written.withLock { $0 = [:] }
    let (watchers, waiters) = state.withLock { state in
      let watchers = state.resources.values.flatMap(\.watchers)
      state.resources = resources
      state.isReady = true
      state.revision = revision
      return (watchers, Self.takeWaiters(&state))
    }
    for watcher in watchers { watcher.end() }
    for waiter in waiters { waiter.resume(returning: true) }
    return revision
  }

  private func makeObject(
    _ record: StoreRecord, _ layout: StorageLayout
  ) -> (prefix: String, object: StoredObject)? {
    guard let key = String(validating: record.key, as: UTF8.self),
      let prefix = layout.prefix(of: key)
    else { return nil }
    return makeObject(record, key, prefix).map { (prefix, $0) }
  }

  private func makeObject(
    _ record: StoreRecord, _ key: String, _ prefix: String
  ) -> StoredObject? {
    guard
      let object = StoredObject(
        key: key, record: StoreRecordView(value: record.value, revision: record.modRevision),
        fields: { fieldIndex(prefix, $0) })
    else {
      logger.warning("a stored object can't be read and is left out", metadata: ["key": "\(key)"])
      return nil
    }
    return object
  }

  // MARK: What was written here

  /// Notes an object that this server has just written, so that the watch's event needn't be read anew.
  func anticipate(_ object: StoredObject) {
    written.withLock { written in
      // A store whose watch lies this far behind is told of every object by the watch alone.
      if written.count >= Limits.writtenObjects { written = [:] }
      if let known = written[object.key], known.revision > object.revision { return }
      written[object.key] = object
    }
  }

  /// The object that was written here at this revision.
  private func takeWritten(_ key: String, _ revision: Revision) -> StoredObject? {
    written.withLock { written in
      guard let object = written[key], object.revision <= revision else { return nil }
      written[key] = nil
      return object.revision == revision ? object : nil
    }
  }

  // MARK: Following

  private func apply(_ changes: [StoreChange]) {
    let layout = layout()
    // Parsing happens before the lock is taken.
    var prepared: [(change: StoreChange, key: String, prefix: String, object: StoredObject?)] = []
    prepared.reserveCapacity(changes.count)
    for change in changes {
      guard let key = String(validating: change.record.key, as: UTF8.self),
        let prefix = layout.prefix(of: key)
      else { continue }
      let written = takeWritten(key, change.record.modRevision)
      let object =
        change.kind == .put ? written ?? makeObject(change.record, key, prefix) : nil
      prepared.append((change, key, prefix, object))
    }
    var ended: [Watcher] = []
    let waiters = state.withLock { state in
      for (change, key, prefix, object) in prepared {
        let revision = change.record.modRevision
        guard revision > state.revision else { continue }
        state.resources[prefix, default: CachedResource()].apply(
          key: key, object: object, revision: revision, ended: &ended)
      }
      if let last = changes.last, last.record.modRevision > state.revision {
        state.revision = last.record.modRevision
      }
      return Self.takeWaiters(&state)
    }
    for watcher in ended { watcher.end() }
    for waiter in waiters { waiter.resume(returning: true) }
  }

  private func advance(to revision: Revision) {
    let waiters = state.withLock { state in
      if revision > state.revision { state.revision = revision }
      return Self.takeWaiters(&state)
    }
    for waiter in waiters { waiter.resume(returning: true) }
  }

  static func takeWaiters(_ state: inout State) -> [CheckedContinuation<Bool, Never>] {
    let revision = state.revision
    let due = state.waiters.filter { $0.revision <= revision }
    if !due.isEmpty { state.waiters.removeAll { $0.revision <= revision } }
    return due.map(\.continuation)
  }

  /// Ends all watches, and takes no new ones: the server stops.
  func stopWatching() {
    let watchers = state.withLock { state in
      let watchers = state.resources.values.flatMap(\.watchers)
      for key in state.resources.keys { state.resources[key]?.buckets = [:] }
      state.isReady = false
      return watchers
    }
    for watcher in watchers { watcher.end() }
  }
}
