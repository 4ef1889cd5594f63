import EtcdClient
import KubeAPI
import Logging
import Primitives
import Testing

@testable import APIServer

@Suite("The watch cache", .timeLimit(.minutes(1)))
struct WatchCacheTests {
  private let store = MemoryStore()
  private let prefix = "/registry/pods/"

  private func withCache(_ body: (WatchCache) async throws -> Void) async throws {
    let cache = WatchCache(
      store: store,
      layout: { StorageLayout(prefixes: ["/registry/pods/", "/registry/leases/"]) },
      fieldIndex: { _, value in ["spec.nodeName": value["spec"]["nodeName"].string ?? ""] },
      logger: Logger(label: "test"))
    let running = Task { await cache.run() }
    #expect(await cache.wait(for: .zero, atMost: .seconds(5)))
    try await body(cache)
    running.cancel()
    await running.value
  }

  private func pod(_ name: String, app: String = "a", node: String = "") -> String {
    #"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"\#(name)","namespace":"ns","#
      + #""labels":{"app":"\#(app)"}},"spec":{"nodeName":"\#(node)"}}"#
  }

  private func write(
    _ cache: WatchCache, _ name: String, app: String = "a", node: String = ""
  ) async throws {
    try await store.set("/registry/pods/ns/\(name)", pod(name, app: app, node: node))
    try await settle(cache)
  }

  private func settle(_ cache: WatchCache) async throws {
    #expect(await cache.wait(for: try await store.currentRevision(), atMost: .seconds(5)))
  }

  private func take(_ watcher: Watcher, _ count: Int) async -> [String] {
    var texts: [String] = []
    while texts.count < count, let notices = await watcher.next() {
      for notice in notices {
        switch notice {
        case .object(let kind, let object):
          texts.append("\(kind.rawValue) \(object.name) \(object.revision)")
        case .bookmark(let revision, let ends): texts.append("BOOKMARK \(revision) \(ends)")
        }
      }
    }
    return texts
  }

  @Test("holds what the store holds, in the order of the keys")
  func listing() async throws {
    try await store.set("/registry/pods/ns/b", pod("b"))
    try await store.set("/registry/pods/ns-2/a", pod("a"))
    try await withCache { cache in
      try await write(cache, "a")
      #expect(cache.list(prefix: prefix, namespace: nil).objects.map(\.key).count == 3)
      // "ns-2" sorts between "ns" and "ns/": only the slash tells a namespace's end.
      #expect(cache.list(prefix: prefix, namespace: "ns").objects.map(\.name) == ["a", "b"])
      try await store.set("/registry/pods/ns/a", nil)
      try await settle(cache)
      #expect(cache.list(prefix: prefix, namespace: "ns").objects.map(\.name) == ["b"])
    }
  }

  @Test("gives objects their record's revision as resourceVersion")
  func resourceVersion() async throws {
    try await withCache { cache in
      try await write(cache, "a")
      let object = try #require(cache.get(key: "/registry/pods/ns/a", prefix: prefix))
      #expect(
        object.value["metadata"]["resourceVersion"].string == "\(try await store.currentRevision())"
      )
      #expect(try Value(json: object.json) == object.value)
    }
  }

  @Test("tells the edges of a selector as ADDED and DELETED")
  func edges() async throws {
    try await withCache { cache in
      let start = cache.revision
      let watcher = try #require(
        cache.watch(prefix: prefix, bucket: .everything, from: .after(start)) {
          $0.labels["app"] == "a"
        })
      try await write(cache, "x", app: "b")
      try await write(cache, "x", app: "a")
      try await write(cache, "x", app: "a", node: "n")
      try await write(cache, "x", app: "b")
      try await write(cache, "y")
      try await store.set("/registry/pods/ns/y", nil)
      try await settle(cache)
      #expect(
        await take(watcher, 5) == [
          "ADDED x 3", "MODIFIED x 4", "DELETED x 5", "ADDED y 6", "DELETED y 7",
        ])
    }
  }

  @Test("wakes a node's watcher for its own pods, also as they leave it")
  func nodes() async throws {
    try await withCache { cache in
      let watcher = try #require(
        cache.watch(prefix: prefix, bucket: .node("n1"), from: .after(cache.revision)) { _ in true }
      )
      try await write(cache, "x", node: "n2")
      try await write(cache, "y", node: "n1")
      try await write(cache, "y", node: "n2")
      #expect(await take(watcher, 2) == ["ADDED y 3", "DELETED y 4"])
    }
  }

  @Test("begins a watch in the past, and with what there is")
  func starts() async throws {
    try await store.set("/registry/pods/ns/a", pod("a"))
    try await withCache { cache in
      let start = cache.revision
      try await write(cache, "b")
      let past = try #require(
        cache.watch(prefix: prefix, bucket: .namespace("ns"), from: .after(start)) { _ in true })
      #expect(await take(past, 1) == ["ADDED b 3"])
      let now = try #require(
        cache.watch(prefix: prefix, bucket: .name(namespace: "ns", name: "a"), from: .now) { _ in
          true
        })
      #expect(await take(now, 2) == ["ADDED a 2", "BOOKMARK 3 true"])
    }
  }

  @Test("refuses a start from before it was filled")
  func tooOld() async throws {
    try await store.set("/registry/pods/ns/a", pod("a"))
    try await withCache { cache in
      #expect(
        cache.watch(prefix: prefix, bucket: .everything, from: .after(Revision(1))) { _ in true }
          == nil)
    }
  }

  @Test("lets a quiet kind's bookmarks advance with every write")
  func bookmarks() async throws {
    try await withCache { cache in
      let watcher = try #require(
        cache.watch(prefix: prefix, bucket: .everything, from: .after(cache.revision)) { _ in true }
      )
      try await store.set("/registry/leases/ns/l", #"{"metadata":{"name":"l","namespace":"ns"}}"#)
      try await settle(cache)
      cache.bookmark(watcher)
      #expect(await take(watcher, 1) == ["BOOKMARK 2 false"])
    }
  }

  @Test("ends a watcher that falls too far behind, and no other")
  func slowWatcher() async throws {
    try await withCache { cache in
      let slow = try #require(
        cache.watch(prefix: prefix, bucket: .everything, from: .after(cache.revision)) { _ in true }
      )
      let other = try #require(
        cache.watch(prefix: prefix, bucket: .name(namespace: "ns", name: "last"), from: .now) { _ in
          true
        })
      for _ in 0...WatchCache.Limits.eventsPerWatcher {
        try await store.set("/registry/pods/ns/x", pod("x"))
      }
      try await write(cache, "last")
      var told = 0
      while let notices = await slow.next() { told += notices.count }
      #expect(told == WatchCache.Limits.eventsPerWatcher)
      #expect(await take(other, 2).last?.hasPrefix("ADDED last") == true)
    }
  }

  @Test("fills itself anew after a compaction, and sends watchers back to list")
  func compaction() async throws {
    try await withCache { cache in
      let watcher = try #require(
        cache.watch(prefix: prefix, bucket: .everything, from: .after(cache.revision)) { _ in true }
      )
      try await write(cache, "a")
      _ = await watcher.next()
      // While the cache is cut off, its place in the history goes.
      store.compact(to: Revision(100))
      store.cutWatches()
      #expect(await watcher.next() == nil || true)
      store.compact(to: .zero)
      try await store.set("/registry/pods/ns/b", pod("b"))
      for _ in 0..<100 where cache.list(prefix: prefix, namespace: nil).objects.count != 2 {
        try await Task.sleep(for: .milliseconds(20))
      }
      #expect(cache.list(prefix: prefix, namespace: nil).objects.map(\.name) == ["a", "b"])
    }
  }

  @Test("leaves out what it can't read")
  func damage() async throws {
    try await store.set("/registry/pods/ns/bad", "no json")
    try await withCache { cache in
      try await store.set("/registry/pods/ns/odd", #"{"metadata":7}"#)
      try await write(cache, "a")
      #expect(cache.list(prefix: prefix, namespace: nil).objects.map(\.name) == ["a"])
    }
  }
}

@Suite("A stored object")
struct StoredObjectTests {
  @Test(
    "takes its resourceVersion in at the right place",
    arguments: [
      #"{"kind":"K","metadata":{"name":"a"},"spec":{"metadata":{}}}"#,
      #"{"spec":{"metadata":{"x":1}},"metadata":{"name":"a"}}"#,
      #"{"note":"\"metadata\":{","metadata" : {"name":"a"}}"#,
      #"{"list":[{"metadata":{}}],"metadata":{"name":"a"}}"#,
    ])
  func splice(_ text: String) throws {
    let bytes = Array(text.utf8)
    let offset = try #require(StoredObject.metadataContentOffset(bytes))
    let value = try Value(json: StoredObject.splice(bytes, at: offset, revision: Revision(7)))
    var expected = try Value(json: bytes)
    expected["metadata"]["resourceVersion"] = "7"
    #expect(value == expected)
  }

  @Test(
    "finds no place where there is none", arguments: ["{}", "[]", #"{"metadata":1}"#, #"{"a":"#])
  func noPlace(_ text: String) {
    #expect(StoredObject.metadataContentOffset(Array(text.utf8)) == nil)
  }
}
