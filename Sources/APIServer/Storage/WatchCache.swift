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
/// What this server wrote itself needn't be read again: the write leaves its object here (`anticipate`), and
/// the watch's event of that revision takes it up.
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
    /// Objects that this server wrote and that the watch hasn't told yet.
    static let writtenObjects = 1_024
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

  enum Bucket: Hashable {
    case everything
    case namespace(String)
    case name(namespace: String, name: String)
    case node(String)
  }

  struct State {
    var isReady = false
    /// Every change up to here is in the cache.
    var revision = Revision.zero
    var resources: [String: CachedResource] = [:]
    var waiters:
      [(revision: Revision, id: UInt64, continuation: CheckedContinuation<Bool, Never>)] =
        []
    var nextWaiter: UInt64 = 0
  }

  let state = Mutex(State())
  /// What this server has written and not yet heard of, by key.
  let written = Mutex<[String: StoredObject]>([:])
  let store: any ObjectStore
  let root: String
  let layout: @Sendable () -> StorageLayout
  let fieldIndex: FieldIndex
  let logger: Logger

  init(
    store: any ObjectStore, root: String = "/registry/",
    layout: @escaping @Sendable () -> StorageLayout,
    fieldIndex: @escaping FieldIndex, logger: Logger
  ) {
    self.store = store
    self.root = root
    self.layout = layout
    self.fieldIndex = fieldIndex
    self.logger = logger
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
}
