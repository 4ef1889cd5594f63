import EtcdClient
import HTTPServer
import KubeAPI
import Primitives

extension ResourceService {
  /// Streams the changes of a resource: one JSON object per line, `{"type":"ADDED","object":{...}}`.
  ///
  /// Where it begins is decided as for lists. Without a revision, and for revision 0, what there is
  /// comes first as ADDED events (kubectl relies on that for `get pod NAME -w`).
  func watch(_ call: Call) async throws(StatusError) -> HTTPResponse {
    let options = try ListOptions(call.request.target, resource: call.resource, isWatch: true)
    let answers = try Answers(call.request, now: environment.now)
    if options.continuation != nil {
      throw .badRequest("continue is forbidden for watch")
    }
    let start: WatchCache.WatchStart
    switch (options.revision, options.sendsInitialEvents) {
    case (nil, let sendsInitial):
      let revision = try await storing { () throws(StoreError) in try await revisions.read() }
      // Foreign keys may have raised the revision; then the cache is as new as it can be.
      _ = await cache.wait(for: revision, atMost: WatchCache.Limits.consistencyWait)
      if !cache.isReady { try await waitForCache(.zero) }
      start = sendsInitial == false ? .after(cache.revision) : .now
    case (let revision?, let sendsInitial):
      try await waitForCache(revision)
      switch sendsInitial {
      case true?: start = .now
      case false? where revision == .zero: start = .after(cache.revision)
      default: start = revision == .zero ? .now : .after(revision)
      }
    }
    let prefix = call.resource.storageKeyPrefix()
    let namespace = call.namespace
    let watcher = cache.watch(
      prefix: prefix,
      bucket: options.bucket(namespace: namespace, isNamespaced: call.resource.isNamespaced),
      from: start
    ) { object in
      (namespace.isEmpty || object.namespace == namespace) && options.matches(object)
    }
    guard let watcher else {
      // As an event on an open stream: some clients look only there.
      return Self.eventStream { writer in
        let error = StatusError.expired(
          "too old resource version: \(options.revision?.rawValue ?? 0) (\(self.cache.revision))")
        try await writer.write(Self.frame("ERROR", error.value.json))
      }
    }
    let stream = EventStream(
      service: self, watcher: watcher, prefix: prefix, resource: call.resource, answers: answers,
      sendsInitialEventsEnd: options.sendsInitialEvents == true,
      allowsBookmarks: options.allowsBookmarks,
      duration: options.timeout ?? Self.defaultDuration())
    return Self.eventStream { writer in try await stream.run(writer) }
  }

  private static func defaultDuration() -> Duration {
    // Spread out, so that the watches of one moment don't all come back at another one.
    .seconds(Limits.watchSeconds + Int64.random(in: 0...Limits.watchSeconds))
  }

  static func eventStream(
    _ produce: @escaping @Sendable (ResponseWriter) async throws -> Void
  ) -> HTTPResponse {
    HTTPResponse(
      status: 200, fields: ["Content-Type": "application/json"], body: .stream(produce))
  }

  static func frame(_ type: String, _ object: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(object.count + 40)
    append(type, object, to: &bytes)
    return bytes
  }

  static func append(_ type: String, _ object: [UInt8], to bytes: inout [UInt8]) {
    bytes.append(contentsOf: "{\"type\":\"\(type)\",\"object\":".utf8)
    bytes.append(contentsOf: object)
    bytes.append(contentsOf: "}\n".utf8)
  }
}

/// One client's watch, from the queue to the response.
private struct EventStream: Sendable {
  let service: ResourceService
  let watcher: Watcher
  let prefix: String
  let resource: ResourceDefinition
  let answers: Answers
  let sendsInitialEventsEnd: Bool
  let allowsBookmarks: Bool
  let duration: Duration

  func run(_ writer: ResponseWriter) async throws {
    let timers = startTimers()
    defer {
      timers.cancel()
      service.cache.stop(watcher, prefix: prefix)
    }
    var isFirst = true
    while let notices = await watcher.next() {
      var bytes: [UInt8] = []
      for notice in notices {
        append(notice, isFirst: &isFirst, to: &bytes)
      }
      try await writer.write(bytes)
    }
    // The end of a watch is the end of its stream, without a word: the client watches again.
  }

  private func append(_ notice: Watcher.Notice, isFirst: inout Bool, to bytes: inout [UInt8]) {
    switch notice {
    case .object(let kind, let object):
      ResourceService.append(
        kind.rawValue, answers.eventObject(object, of: resource, hasColumns: isFirst), to: &bytes)
      isFirst = false
    case .bookmark(let revision, let endsInitialEvents):
      if endsInitialEvents && !sendsInitialEventsEnd { return }
      ResourceService.append(
        "BOOKMARK", bookmark(revision, endsInitialEvents: endsInitialEvents).json, to: &bytes)
    }
  }

  private func bookmark(_ revision: Revision, endsInitialEvents: Bool) -> Value {
    var object: Value = [
      "kind": Value(resource.kind.kind), "apiVersion": Value(resource.kind.apiVersion),
      "metadata": ["resourceVersion": Value(String(revision.rawValue))],
    ]
    if endsInitialEvents {
      object["metadata"]["annotations"] = ["k8s.io/initial-events-end": "true"]
    }
    switch answers.format.form {
    case .object: return object
    case .partialMetadata: return object.partialMetadata
    case .table(let version):
      return [
        "kind": "Table", "apiVersion": Value("meta.k8s.io/\(version)"),
        "metadata": object["metadata"], "columnDefinitions": nil, "rows": [],
      ]
    }
  }

  /// Sends bookmarks from time to time, and ends the watch when its time is over.
  private func startTimers() -> Task<Void, Never> {
    Task {
      let end = ContinuousClock.now + duration
      while true {
        let left = end - ContinuousClock.now
        // The last bookmark comes shortly before the end, so that the next watch begins there.
        let lead: Duration = .seconds(2)
        let pause = min(ResourceService.Limits.bookmarkInterval, max(left - lead, .zero))
        if left <= lead {
          if allowsBookmarks { service.cache.bookmark(watcher) }
          try? await Task.sleep(for: max(left, .zero))
          watcher.end()
          return
        }
        do { try await Task.sleep(for: pause) } catch { return }
        if allowsBookmarks, end - ContinuousClock.now > lead { service.cache.bookmark(watcher) }
      }
    }
  }
}
