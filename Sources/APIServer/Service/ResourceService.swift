import EtcdClient
import HTTPServer
import KubeAPI
import Logging
import Primitives

/// Serves the resources of the API: reads from the cache and the store, writes through the pipeline.
///
/// This file holds what all verbs share; each verb has a file of its own.
final class ResourceService: Sendable {
  enum Limits {
    /// How long a request for a revision waits for the cache to reach it.
    static let revisionWait: Duration = .seconds(3)
    /// Records per request to the store where a list is read from it.
    static let storePage = 500
    /// Attempts of a write whose object changed meanwhile and that may be tried again.
    static let writeAttempts = 10
    /// A watch without a time-out of its own lasts this long, and up to twice as long.
    static let watchSeconds: Int64 = 1_800
    /// How often a watch that allows it gets a bookmark.
    static let bookmarkInterval: Duration = .seconds(60)
    /// Bytes of one object, as stored.
    static let objectBytes = 1_500_000
  }

  let scheme: @Sendable () -> Scheme
  let store: any ObjectStore
  let cache: WatchCache
  let revisions: RevisionReader
  let eventLeases: EventLeases
  let admission: Admission
  let allocation: ServiceAllocation
  let tokens: ServiceAccountTokens
  let environment: Environment
  let logger: Logger

  /// Time and identifiers, given from outside so that tests can fix them.
  struct Environment: Sendable {
    var now: @Sendable () -> Timestamp
    var uid: @Sendable () -> String
    /// For the ends of generated names.
    var random: @Sendable () -> RandomSource
  }

  init(
    scheme: @escaping @Sendable () -> Scheme, store: any ObjectStore, cache: WatchCache,
    allocation: ServiceAllocation, tokens: ServiceAccountTokens, environment: Environment,
    tolerations: Admission.Tolerations = .init(), logger: Logger
  ) {
    self.scheme = scheme
    self.store = store
    self.cache = cache
    self.allocation = allocation
    self.tokens = tokens
    self.environment = environment
    self.logger = logger
    revisions = RevisionReader(store: store)
    eventLeases = EventLeases(store: store)
    admission = Admission(tolerations: tolerations) {
      (group, plural, namespace, name) async throws(StatusError) in
      try await Self.find(
        GroupResource(group: group, resource: plural), namespace, name, scheme(), cache, store)
    }
  }

  /// Another object, for admission: from the cache, and where that has none, from the store, as it may
  /// have been made a moment ago.
  private static func find(
    _ resource: GroupResource, _ namespace: String, _ name: String, _ scheme: Scheme,
    _ cache: WatchCache, _ store: any ObjectStore
  ) async throws(StatusError) -> Value? {
    guard
      let definition = scheme.resources.first(where: { $0.groupResource == resource })
    else { return nil }
    let key = definition.storageKey(namespace: namespace, name: name)
    if let object = cache.get(key: key, prefix: definition.storageKeyPrefix()) {
      return definition.storage.served(object.value)
    }
    do throws(StoreError) {
      guard let record = try await store.get(key).record else { return nil }
      return (try? Value(json: record.value)).map { definition.storage.served($0) }
    } catch {
      throw status(error)
    }
  }

  /// A request together with what it was found to mean.
  struct Call: Sendable {
    var request: HTTPRequest
    var info: RequestInfo
    var user: UserInfo
    var resource: ResourceDefinition

    var namespace: String { resource.isNamespaced ? info.namespace : "" }
    var key: String { resource.storageKey(namespace: namespace, name: info.name) }
  }

  // MARK: Errors

  /// What the store's failures mean to a client.
  static func status(_ error: StoreError) -> StatusError {
    switch error.code {
    case .compacted:
      .expired("The provided resource version is too old to display a consistent list result")
    case .futureRevision:
      .timeout("the requested resource version is not there yet", retryAfterSeconds: 1)
    case .unavailable: .serviceUnavailable("the store can't be reached: \(error.message)")
    case .unknownOutcome:
      .timeout("the store gave no answer: \(error.message)", retryAfterSeconds: 1)
    case .exhausted: .internalError("the store is out of space: \(error.message)")
    case .cancelled: .timeout("the request was cancelled")
    case .leaseNotFound, .malformedAnswer, .refused: .internalError(error.description)
    }
  }

  /// Runs a request to the store, with its failures as Status.
  func storing<Answer>(
    _ body: () async throws(StoreError) -> Answer
  ) async throws(StatusError) -> Answer {
    do throws(StoreError) { return try await body() } catch { throw Self.status(error) }
  }

  // MARK: Objects

  func object(
    _ record: StoreRecord, of resource: ResourceDefinition
  ) throws(StatusError) -> StoredObject {
    let key = String(decoding: record.key, as: UTF8.self)
    guard
      let object = StoredObject(
        key: key, record: StoreRecordView(value: record.value, revision: record.modRevision),
        fields: { scheme().storage.fields(of: $0, prefix: resource.storageKeyPrefix()) })
    else { throw .internalError("the stored object \(key) can't be read") }
    return object
  }

  /// An object that has just been written.
  func object(
    written value: Value, as bytes: [UInt8], key: String, at revision: Revision,
    of resource: ResourceDefinition
  ) throws(StatusError) -> StoredObject {
    guard
      let object = StoredObject(
        key: key, record: StoreRecordView(value: bytes, revision: revision), value: value,
        fields: { scheme().storage.fields(of: $0, prefix: resource.storageKeyPrefix()) })
    else { throw .internalError("the object \(key) has no metadata") }
    return object
  }

  /// The object as the store has it now.
  func current(_ call: Call) async throws(StatusError) -> StoredObject? {
    let key = call.key
    let record = try await storing { () throws(StoreError) in try await store.get(key).record }
    guard let record else { return nil }
    return try object(record, of: call.resource)
  }

  func notFound(_ call: Call) -> StatusError {
    .notFound(call.resource.groupResource, name: call.info.name)
  }
}
