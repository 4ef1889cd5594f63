import HTTP1Client
import KubeAPI
import Logging
import Synchronization

/// A local copy of one kind of objects, kept current by one list and one watch.
///
/// ## The problem
/// A controller asks "which pods does this ReplicaSet own?" thousands of times; the API server must not be
/// asked each time, and nothing that happened may be missed, however often connections break.
///
/// ## The design
/// `run` lists all objects, replaces the cache by the answer, and watches from the list's resource
/// version. A watch that ends is opened again from the last version seen; one that is too old (410) leads
/// to a new list, and what the cache held and the list doesn't is told as deleted. Handlers hear *that*
/// something changed and usually only queue a key: decisions read the cache when they are made, so a lost
/// or doubled notification costs nothing (level-triggered). Indexes answer by owner, node or namespace
/// without a scan.
public final class Informer: Sendable {
  /// A change of the cache. Handlers see the changes of one object in their order.
  public enum Change: Sendable {
    case added(Value)
    case updated(old: Value, new: Value)
    case deleted(Value)

    /// The object as it is now, or as it last was.
    public var object: Value {
      switch self {
      case .added(let object), .updated(_, let object), .deleted(let object): object
      }
    }
  }

  public typealias Handler = @Sendable (Change) -> Void
  public typealias IndexFunction = @Sendable (Value) -> [String]

  fileprivate struct State {
    var objects: [ObjectKey: Value] = [:]
    var indexes: [String: Index] = [:]
    var handlers: [Handler] = []
    var isSynced = false
    var waiters: [UInt64: CheckedContinuation<Void, Never>] = [:]
    var nextWaiter: UInt64 = 0
  }

  fileprivate struct Index {
    let function: IndexFunction
    var keys: [String: Set<ObjectKey>] = [:]
  }

  public let type: ResourceType
  private let client: APIClient
  private let namespace: String?
  private let labelSelector: String
  private let fieldSelector: String
  private let log: Logger
  private let state = Mutex(State())

  public init(
    _ type: ResourceType, client: APIClient, namespace: String? = nil, labelSelector: String = "",
    fieldSelector: String = "", log: Logger
  ) {
    self.type = type
    self.client = client
    self.namespace = namespace
    self.labelSelector = labelSelector
    self.fieldSelector = fieldSelector
    self.log = log
  }

  // MARK: Before running

  /// Adds a handler. It is told of every object already known as added.
  public func addHandler(_ handler: @escaping Handler) {
    let known = state.withLock { state in
      state.handlers.append(handler)
      return Array(state.objects.values)
    }
    for object in known { handler(.added(object)) }
  }

  /// Adds an index; `function` gives the values under which an object is found.
  public func addIndex(_ name: String, _ function: @escaping IndexFunction) {
    state.withLock { state in
      var index = Index(function: function)
      for (key, object) in state.objects {
        for value in function(object) { index.keys[value, default: []].insert(key) }
      }
      state.indexes[name] = index
    }
  }

  // MARK: Reading the cache

  /// Whether the first list is in the cache.
  public var isSynced: Bool { state.withLock { $0.isSynced } }

  /// Returns when the first list is in the cache, or the task is cancelled.
  public func waitUntilSynced() async {
    let number = state.withLock { state in
      state.nextWaiter += 1
      return state.nextWaiter
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let mustWait = state.withLock { state in
          // Cancellation that comes later finds the waiter; one that came before is seen here.
          guard !state.isSynced, !Task.isCancelled else { return false }
          state.waiters[number] = continuation
          return true
        }
        if !mustWait { continuation.resume() }
      }
    } onCancel: {
      state.withLock { $0.waiters.removeValue(forKey: number) }?.resume()
    }
  }

  public func get(_ key: ObjectKey) -> Value? { state.withLock { $0.objects[key] } }

  public func get(namespace: String = "", name: String) -> Value? {
    get(ObjectKey(namespace: namespace, name: name))
  }

  /// All objects, in order of namespace and name. O(n log n).
  public func list() -> [Value] {
    state.withLock { state in state.objects.sorted { $0.key < $1.key }.map(\.value) }
  }

  /// The objects that an index has under `value`, in order of namespace and name.
  public func list(index: String, _ value: String) -> [Value] {
    state.withLock { state in
      (state.indexes[index]?.keys[value] ?? []).sorted().compactMap { state.objects[$0] }
    }
  }

  /// As `list`, in no order: O(n).
  public func unordered(index: String, _ value: String) -> [Value] {
    state.withLock { state in
      (state.indexes[index]?.keys[value] ?? []).compactMap { state.objects[$0] }
    }
  }

  // MARK: Running

  /// Keeps the cache current until the task is cancelled.
  public func run() async {
    var backoff = Backoff(first: .milliseconds(100), last: .seconds(10))
    while !Task.isCancelled {
      do {
        let list = try await client.list(
          type, namespace: namespace, labelSelector: labelSelector, fieldSelector: fieldSelector)
        replaceAll(by: list["items"].elements)
        let started = ContinuousClock.now
        defer { if .now - started > Self.steady { backoff.reset() } }
        try await follow(from: list["metadata"]["resourceVersion"].string ?? "0")
      } catch is CancellationError {
        return
      } catch {
        if Task.isCancelled { return }
        log.debug(
          "list and watch start anew", metadata: ["kind": "\(type.plural)", "error": "\(error)"])
        try? await Task.sleep(for: backoff.next())
      }
    }
  }

  /// A watch that lasted this long was no failure, whatever ended it.
  private static let steady = Duration.seconds(30)

  /// Watches from `version` on, through any number of connections; throws when a new list is needed.
  private func follow(from version: String) async throws {
    var version = version
    var backoff = Backoff(first: .milliseconds(50), last: .seconds(5))
    while true {
      try Task.checkCancellation()
      do {
        let stream = try await client.watch(
          type, namespace: namespace, labelSelector: labelSelector, fieldSelector: fieldSelector,
          resourceVersion: version, timeoutSeconds: Int.random(in: 300...600))
        var isQuiet = true
        for try await event in stream {
          isQuiet = false
          switch event {
          case .added(let object), .modified(let object): store(object)
          case .deleted(let object): remove(object)
          case .bookmark: break
          }
          if let seen = event.resourceVersion { version = seen }
          backoff.reset()
        }
        // A server that ends watches at once isn't asked again at once.
        if isQuiet { try await Task.sleep(for: backoff.next()) }
      } catch let error as StatusError where error.code == 410 {
        throw error
      } catch let error as StatusError where error.code == 429 || error.code >= 500 {
        try await Task.sleep(for: backoff.next())
      } catch is HTTPClientError {
        try await Task.sleep(for: backoff.next())
      }
    }
  }

  func replaceAll(by objects: [Value]) {
    var changes: [Change] = []
    let (handlers, waiters) = state.withLock { state in
      var gone = state.objects
      for var object in objects {
        // A list's items leave out what the list says once.
        object.setDefault("kind", to: Value(type.kind.kind))
        object.setDefault("apiVersion", to: Value(type.kind.apiVersion))
        let key = ObjectKey(object)
        gone[key] = nil
        changes += state.put(object, key)
      }
      for (key, object) in gone {
        state.take(key)
        changes.append(.deleted(object))
      }
      state.isSynced = true
      defer { state.waiters = [:] }
      return (state.handlers, state.waiters)
    }
    for waiter in waiters.values { waiter.resume() }
    for change in changes { for handler in handlers { handler(change) } }
  }

  func store(_ object: Value) {
    let (changes, handlers) = state.withLock { state in
      (state.put(object, ObjectKey(object)), state.handlers)
    }
    for change in changes { for handler in handlers { handler(change) } }
  }

  func remove(_ object: Value) {
    let handlers = state.withLock { state in
      state.take(ObjectKey(object))
      return state.handlers
    }
    for handler in handlers { handler(.deleted(object)) }
  }
}

extension Informer.State {
  /// Puts an object in, and tells what that changes: nothing if the cache had this very version.
  ///
  /// An object with another uid is another object that took the name of the one that is gone.
  fileprivate mutating func put(_ object: Value, _ key: ObjectKey) -> [Informer.Change] {
    let old = objects.updateValue(object, forKey: key)
    if let old, old["metadata"]["resourceVersion"] == object["metadata"]["resourceVersion"] {
      return []
    }
    if let old { unindex(old, key) }
    for name in indexes.keys {
      for value in indexes[name]!.function(object) {
        indexes[name]!.keys[value, default: []].insert(key)
      }
    }
    guard let old else { return [.added(object)] }
    return old["metadata"]["uid"] == object["metadata"]["uid"]
      ? [.updated(old: old, new: object)] : [.deleted(old), .added(object)]
  }

  fileprivate mutating func take(_ key: ObjectKey) {
    if let old = objects.removeValue(forKey: key) { unindex(old, key) }
  }

  private mutating func unindex(_ object: Value, _ key: ObjectKey) {
    for name in indexes.keys {
      for value in indexes[name]!.function(object) {
        indexes[name]!.keys[value]?.remove(key)
        if indexes[name]!.keys[value]?.isEmpty == true { indexes[name]!.keys[value] = nil }
      }
    }
  }
}

extension WatchEvent {
  /// Where a watch goes on after this event.
  var resourceVersion: String? {
    switch self {
    case .added(let object), .modified(let object), .deleted(let object):
      object["metadata"]["resourceVersion"].string
    case .bookmark(let version): version
    }
  }
}

/// Waits between attempts: doubling, with jitter, up to a limit.
public struct Backoff: Sendable {
  private let first: Duration
  private let last: Duration
  private var current: Duration

  public init(first: Duration, last: Duration) {
    self.first = first
    self.last = last
    current = first
  }

  public mutating func next() -> Duration {
    defer { current = min(current * 2, last) }
    return current * Double.random(in: 0.5...1)
  }

  public mutating func reset() { current = first }
}
