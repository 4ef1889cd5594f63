import EtcdClient
import HTTPServer
import KubeAPI
import Primitives

extension ResourceService {
  // MARK: Get

  func get(_ call: Call) async throws(StatusError) -> HTTPResponse {
    let answers = try Answers(call.request, now: environment.now)
    let object: StoredObject?
    switch try await revisionAsked(call) {
    case nil:
      object = try await current(call)
    case let revision?:
      try await waitForCache(revision)
      object = cache.get(key: call.key, prefix: call.resource.storageKeyPrefix())
    }
    guard let object else { throw notFound(call) }
    return answers.object(object, of: call.resource)
  }

  private func revisionAsked(_ call: Call) async throws(StatusError) -> Revision? {
    guard let text = call.request.target.value(of: "resourceVersion"), !text.isEmpty else {
      return nil
    }
    guard let number = Int64(text), number >= 0 else {
      throw .badRequest("Invalid value: \(quoted(text)): invalid resource version")
    }
    return Revision(number)
  }

  /// Waits until the cache is filled and has reached a revision.
  func waitForCache(_ revision: Revision) async throws(StatusError) {
    guard await cache.wait(for: revision, atMost: Limits.revisionWait) else {
      guard cache.isReady else { throw .serviceUnavailable("the server is starting") }
      throw .resourceVersionTooLarge(
        UInt64(clamping: revision.rawValue), current: UInt64(clamping: cache.revision.rawValue))
    }
  }

  // MARK: List

  /// What a list found.
  struct Page {
    var objects: [StoredObject]
    var revision: Revision
    var continuation: ListOptions.Continuation?
    /// How many objects are left; known only without selectors.
    var remaining: Int?

    var metadata: Value {
      var metadata: Value = ["resourceVersion": Value(String(revision.rawValue))]
      if let continuation {
        metadata["continue"] = Value(continuation.token)
        if let remaining, remaining > 0 { metadata["remainingItemCount"] = Value(remaining) }
      }
      return metadata
    }
  }

  func list(_ call: Call) async throws(StatusError) -> HTTPResponse {
    let options = try ListOptions(call.request.target, resource: call.resource, isWatch: false)
    let answers = try Answers(call.request, now: environment.now)
    let page: Page
    do throws(StatusError) {
      page = try await self.page(call.resource, namespace: call.namespace, options)
    } catch {
      guard error.reason == .expired, var token = options.continuation else { throw error }
      // The token that the message speaks of: from the same place on, at the newest revision.
      token.revision = nil
      var status = error.value
      status["metadata"]["continue"] = Value(token.token)
      return .json(status, status: error.code)
    }
    return answers.list(page.objects, of: call.resource, metadata: page.metadata)
  }

  /// Finds out where a list is to be read, and reads it.
  ///
  /// | asked for | read from |
  /// |---|---|
  /// | nothing | the cache, once it has reached the revision that the store has now |
  /// | resourceVersion=0 | the cache as it is |
  /// | NotOlderThan N | the cache, once it has reached N |
  /// | Exact N, or a continue token | the store at that revision |
  func page(
    _ resource: ResourceDefinition, namespace: String, _ options: ListOptions
  ) async throws(StatusError) -> Page {
    if let continuation = options.continuation {
      return try await storePage(
        resource, namespace, options, at: continuation.revision, after: continuation.last)
    }
    switch (options.revision, options.match) {
    case (nil, _):
      let revision = try await storing { () throws(StoreError) in try await revisions.read() }
      if await cache.wait(for: revision, atMost: WatchCache.Limits.consistencyWait) {
        return cachePage(resource, namespace, options)
      }
      return try await storePage(resource, namespace, options, at: nil, after: nil)
    case (let revision?, .exact):
      return try await storePage(resource, namespace, options, at: revision, after: nil)
    case (let revision?, nil) where options.limit != nil && revision > .zero:
      // What "exact" was before there was a word for it.
      return try await storePage(resource, namespace, options, at: revision, after: nil)
    case (let revision?, _):
      try await waitForCache(revision)
      return cachePage(resource, namespace, options)
    }
  }

  private func cachePage(
    _ resource: ResourceDefinition, _ namespace: String, _ options: ListOptions
  ) -> Page {
    let prefix = resource.storageKeyPrefix()
    let (objects, revision) = cache.list(
      prefix: prefix, namespace: namespace.isEmpty ? nil : namespace)
    var page = Page(objects: [], revision: revision)
    let isSelective = !options.labels.isEverything || !options.fields.isEverything
    let limit = options.limit ?? Int.max
    for (offset, object) in objects.enumerated() where !isSelective || options.matches(object) {
      if page.objects.count == limit {
        guard let last = page.objects.last else { break }
        page.continuation = ListOptions.Continuation(
          revision: revision, last: String(last.key.dropFirst(prefix.count)))
        if !isSelective { page.remaining = objects.count - offset }
        break
      }
      page.objects.append(object)
    }
    return page
  }

  private func storePage(
    _ resource: ResourceDefinition, _ namespace: String, _ options: ListOptions,
    at revision: Revision?, after last: String?
  ) async throws(StatusError) -> Page {
    let scope = resource.storageKeyPrefix(namespace: namespace)
    let whole = resource.storageKeyPrefix()
    var query = StoreQuery(.prefix(Array(scope.utf8)))
    query.revision = revision
    if let last {
      let start = whole + last
      // A token from another list must not open a door to other keys.
      guard start.hasPrefix(scope) else { throw .badRequest("continue key is not valid") }
      query.range.first = Array(start.utf8) + [0]
    }
    let limit = options.limit ?? Int.max
    let isSelective = !options.labels.isEverything || !options.fields.isEverything
    var page = Page(objects: [], revision: revision ?? .zero)
    while true {
      query.limit = isSelective ? Limits.storePage : min(limit, Limits.storePage)
      let answer: StorePage
      do throws(StoreError) {
        answer = try await store.read(query)
      } catch {
        guard error.code == .compacted, last != nil else { throw Self.status(error) }
        throw Self.expiredContinuation
      }
      if query.revision == nil {
        query.revision = answer.revision
        page.revision = answer.revision
      }
      for (offset, record) in answer.records.enumerated() {
        let object = try self.object(record, of: resource)
        if isSelective && !options.matches(object) { continue }
        page.objects.append(object)
        if page.objects.count == limit {
          let isLast = offset == answer.records.count - 1 && !answer.hasMore
          if !isLast {
            page.continuation = ListOptions.Continuation(
              revision: page.revision, last: String(object.key.dropFirst(whole.count)))
            if !isSelective { page.remaining = answer.count - offset - 1 }
          }
          return page
        }
      }
      guard answer.hasMore, let last = answer.records.last else { return page }
      query.range.first = last.key + [0]
    }
  }

  /// A page whose revision was compacted away: the client may go on at the newest revision instead, with
  /// the token that comes along, or begin again.
  private static var expiredContinuation: StatusError {
    .expired(
      "The provided continue parameter is too old to display a consistent list result. You can start "
        + "a new list without the continue parameter, or use the continue token in this response to "
        + "retrieve the remainder of the results. Continuing with the provided token results in an "
        + "inconsistent list - objects that were created, modified, or deleted between the time the "
        + "first chunk was returned and now may show up in the list.")
  }
}
