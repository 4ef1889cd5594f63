import EtcdClient
import KubeAPI
import Logging
import Primitives
import Synchronization

/// Every object of the cluster in memory, kept current by one watch on the store.
///
/// # The problem
///
/// Thousands of clients list and watch. If each of them reached the store, the store would do the same
/// work thousands of times; and a list must still show every write that ended before it began.
///
/// # The design
///
/// One task lists `/registry/` at one revision and watches it from there. All kinds come through this
/// one watch, so every write advances every kind: a kind that nobody wrote to is provably current, and a
/// resourceVersion means the same everywhere.
///
/// Objects stand per resource in an array ordered by key; a list takes the array (a reference) under
/// the lock and reads it outside. The last `Limits.eventsPerResource` events of each resource are kept
/// for watches that begin in the past; an older start is answered 410.
///
/// A watcher waits in a bucket: all objects of the resource, a namespace, one name, or one node
/// (`spec.nodeName`). An event looks only into the buckets of its object's old and new state, so that
/// 5,000 agents which each watch their own pods cost one look-up. A selector's edge is decided here:
/// an object that begins to match is ADDED, one that ceases to match is DELETED.
///
/// Watchers have bounded queues. One that overflows is ended; its client watches again from the last
/// revision that it saw.
///
/// # Worked example
///
/// A client lists pods and gets revision 41, and watches from there. Revision 42 changes a Lease: the
/// pods' watcher sees nothing, but a bookmark now says 42. Revision 43 relabels a pod so that the
/// selector no longer matches: the watcher gets DELETED with resourceVersion 43.
///
/// # What is left out
///
/// Dropping what was not read for long: the cluster's objects are expected to fit in memory, as they
/// must in Kubernetes' own server.
final class WatchCache: Sendable {
  enum Limits {
    /// Events kept per resource for watches that begin in the past.
    static let eventsPerResource = 2_048
    /// Events waiting for one watcher.
    static let eventsPerWatcher = 4_096
    /// How long a consistent list waits for the cache before it reads the store.
    static let consistencyWait: Duration = .milliseconds(250)
    /// Records per request while the cache is filled.
    static let pageSize = 500
  }

  enum EventKind: String, Sendable {
    case added = "ADDED"
    case modified = "MODIFIED"
    case deleted = "DELETED"
  }

  /// A change of one object.
  struct Event: Sendable {
    let revision: Revision
    /// After the change; for a deletion the last state, at the deletion's revision.
    let object: StoredObject
    let previous: StoredObject?
    let isDeletion: Bool
  }

  /// What field selectors may ask for, per resource; the key is the storage prefix.
  typealias FieldIndex = @Sendable (_ prefix: String, _ value: Value) -> [String: String]

  private struct Resource {
    /// In the order of their keys.
    var objects: [StoredObject] = []
    var events: [Event] = []
    /// Watches must begin at or after this revision.
    var oldest = Revision.zero
    var buckets: [Bucket: [ObjectIdentifier: Watcher]] = [:]
  }

  enum Bucket: Hashable {
    case everything
    case namespace(String)
    case name(namespace: String, name: String)
    case node(String)
  }

  private struct State {
    var isReady = false
    /// Every change up to here is in the cache.
    var revision = Revision.zero
    var resources: [String: Resource] = [:]
    var waiters:
      [(revision: Revision, id: UInt64, continuation: CheckedContinuation<Bool, Never>)] =
        []
    var nextWaiter: UInt64 = 0
  }

  private let state = Mutex(State())
  private let store: any ObjectStore
  private let root: String
  /// Storage prefixes, longest first, so that `/registry/services/specs/` wins over shorter ones.
  private let prefixes: @Sendable () -> [String]
  private let fieldIndex: FieldIndex
  private let logger: Logger

  init(
    store: any ObjectStore, root: String = "/registry/",
    prefixes: @escaping @Sendable () -> [String],
    fieldIndex: @escaping FieldIndex, logger: Logger
  ) {
    self.store = store
    self.root = root
    self.prefixes = prefixes
    self.fieldIndex = fieldIndex
    self.logger = logger
  }

  // MARK: Filling

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
    var resources: [String: Resource] = [:]
    let prefixes = prefixes()
    var revision = Revision.zero
    while true {
      let page = try await store.read(query)
      if query.revision == nil {
        revision = page.revision
        query.revision = revision
      }
      for record in page.records {
        guard let (prefix, object) = makeObject(record, prefixes) else { continue }
        resources[prefix, default: Resource()].objects.append(object)
      }
      guard page.hasMore, let last = page.records.last else { break }
      query.range.first = last.key + [0]
    }
    for prefix in prefixes { resources[prefix, default: Resource()].oldest = revision }
    // The store's order is the order of bytes, and so is the arrays'.
    let (watchers, waiters) = state.withLock { state in
      let watchers = state.resources.values.flatMap { $0.buckets.values.flatMap(\.values) }
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
    _ record: StoreRecord, _ prefixes: [String]
  ) -> (prefix: String, object: StoredObject)? {
    guard let key = String(validating: record.key, as: UTF8.self),
      let prefix = Self.prefix(of: key, prefixes)
    else { return nil }
    guard
      let object = StoredObject(
        key: key, record: StoreRecordView(value: record.value, revision: record.modRevision),
        fields: { fieldIndex(prefix, $0) })
    else {
      logger.warning("a stored object can't be read and is left out", metadata: ["key": "\(key)"])
      return nil
    }
    return (prefix, object)
  }

  static func prefix(of key: String, _ prefixes: [String]) -> String? {
    prefixes.first { key.hasPrefix($0) }
  }

  private func apply(_ changes: [StoreChange]) {
    let prefixes = prefixes()
    // Parsing happens before the lock is taken.
    var prepared: [(change: StoreChange, key: String, prefix: String, object: StoredObject?)] = []
    prepared.reserveCapacity(changes.count)
    for change in changes {
      guard let key = String(validating: change.record.key, as: UTF8.self),
        let prefix = Self.prefix(of: key, prefixes)
      else { continue }
      let object = change.kind == .put ? makeObject(change.record, prefixes)?.object : nil
      prepared.append((change, key, prefix, object))
    }
    var ended: [Watcher] = []
    let waiters = state.withLock { state in
      for (change, key, prefix, object) in prepared {
        let revision = change.record.modRevision
        guard revision > state.revision else { continue }
        Self.apply(
          key: key, object: object, revision: revision,
          to: &state.resources[prefix, default: Resource()], ended: &ended)
      }
      if let last = changes.last, last.record.modRevision > state.revision {
        state.revision = last.record.modRevision
      }
      return Self.takeWaiters(&state)
    }
    for watcher in ended { watcher.end() }
    for waiter in waiters { waiter.resume(returning: true) }
  }

  private static func apply(
    key: String, object: StoredObject?, revision: Revision, to resource: inout Resource,
    ended: inout [Watcher]
  ) {
    let position = resource.objects.position(of: key)
    let event: Event
    if let object {
      if position.isFound {
        let previous = resource.objects[position.index]
        resource.objects[position.index] = object
        event = Event(revision: revision, object: object, previous: previous, isDeletion: false)
      } else {
        resource.objects.insert(object, at: position.index)
        event = Event(revision: revision, object: object, previous: nil, isDeletion: false)
      }
    } else {
      guard position.isFound else { return }
      let previous = resource.objects.remove(at: position.index)
      event = Event(
        revision: revision, object: StoredObject(previous, revision: revision), previous: previous,
        isDeletion: true)
    }
    resource.events.append(event)
    if resource.events.count > 2 * Limits.eventsPerResource {
      // Halved at once, so that dropping is cheap on average.
      let dropped = resource.events.count - Limits.eventsPerResource
      resource.oldest = resource.events[dropped - 1].revision
      resource.events.removeFirst(dropped)
    }
    var buckets: [Bucket] = [
      .everything, .namespace(event.object.namespace),
      .name(namespace: event.object.namespace, name: event.object.name),
    ]
    if let node = event.object.fields["spec.nodeName"], !node.isEmpty {
      buckets.append(.node(node))
    }
    if let node = event.previous?.fields["spec.nodeName"], !node.isEmpty,
      node != event.object.fields["spec.nodeName"]
    {
      buckets.append(.node(node))
    }
    for bucket in buckets {
      for (id, watcher) in resource.buckets[bucket] ?? [:] where !watcher.offer(event) {
        resource.buckets[bucket]?[id] = nil
        ended.append(watcher)
      }
    }
  }

  private func advance(to revision: Revision) {
    let waiters = state.withLock { state in
      if revision > state.revision { state.revision = revision }
      return Self.takeWaiters(&state)
    }
    for waiter in waiters { waiter.resume(returning: true) }
  }

  private static func takeWaiters(_ state: inout State) -> [CheckedContinuation<Bool, Never>] {
    let revision = state.revision
    let due = state.waiters.filter { $0.revision <= revision }
    if !due.isEmpty { state.waiters.removeAll { $0.revision <= revision } }
    return due.map(\.continuation)
  }

  /// Ends all watches, and takes no new ones: the server stops.
  func stopWatching() {
    let watchers = state.withLock { state in
      let watchers = state.resources.values.flatMap { $0.buckets.values.flatMap(\.values) }
      for key in state.resources.keys { state.resources[key]?.buckets = [:] }
      state.isReady = false
      return watchers
    }
    for watcher in watchers { watcher.end() }
  }

  // MARK: Reading

  /// True once the cache was filled.
  var isReady: Bool { state.withLock { $0.isReady } }

  var revision: Revision { state.withLock { $0.revision } }

  /// Waits until the cache has reached a revision.
  ///
  /// - Returns: false where it didn't in time.
  func wait(for revision: Revision, atMost duration: Duration) async -> Bool {
    if state.withLock({ $0.isReady && $0.revision >= revision }) { return true }
    let id = state.withLock { state in
      state.nextWaiter += 1
      return state.nextWaiter
    }
    let timer = Task {
      try? await Task.sleep(for: duration)
      giveUp(id)
    }
    defer { timer.cancel() }
    return await withCheckedContinuation { continuation in
      let isReady = state.withLock { state in
        if state.isReady && state.revision >= revision { return true }
        state.waiters.append((revision, id, continuation))
        return false
      }
      if isReady { continuation.resume(returning: true) }
    }
  }

  private func giveUp(_ id: UInt64) {
    let continuation = state.withLock { state in
      guard let index = state.waiters.firstIndex(where: { $0.id == id }) else {
        return CheckedContinuation<Bool, Never>?.none
      }
      return state.waiters.remove(at: index).continuation
    }
    continuation?.resume(returning: false)
  }

  /// The objects of a resource, all or one namespace's, in the order of their keys, and the revision
  /// that they are at.
  func list(
    prefix: String, namespace: String?
  ) -> (objects: ArraySlice<StoredObject>, revision: Revision) {
    let (objects, revision) = state.withLock { state in
      (state.resources[prefix]?.objects ?? [], state.revision)
    }
    guard let namespace else { return (objects[...], revision) }
    let scope = "\(prefix)\(namespace)/"
    let start = objects.position(of: scope).index
    // The first key behind the scope: its slash replaced by the next byte.
    let end = objects.position(of: "\(prefix)\(namespace)0").index
    return (objects[start..<end], revision)
  }

  func get(key: String, prefix: String) -> StoredObject? {
    state.withLock { state in
      guard let resource = state.resources[prefix] else { return nil }
      let position = resource.objects.position(of: key)
      return position.isFound ? resource.objects[position.index] : nil
    }
  }

  // MARK: Watching

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
      var resource = state.resources[prefix] ?? Resource()
      switch start {
      case .now:
        for object in resource.objects where bucket.contains(object) && matches(object) {
          watcher.enqueueInitial(object)
        }
        watcher.endInitial(at: state.revision)
      case .after(let revision):
        guard state.isReady, revision >= resource.oldest else { return nil }
        // Events are in the order of their revisions.
        for event in resource.events.suffix(after: revision)
        where bucket.contains(event.object) || event.previous.map(bucket.contains) == true {
          if !watcher.offer(event) { return nil }
        }
      }
      resource.buckets[bucket, default: [:]][ObjectIdentifier(watcher)] = watcher
      state.resources[prefix] = resource
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
