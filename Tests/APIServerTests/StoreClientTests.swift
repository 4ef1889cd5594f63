import EtcdClient
import Primitives
import Synchronization
import Testing

/// The client of the store against a real etcd, with members that die, freeze and come back.
@Suite(
  "A store client", .serialized, .timeLimit(.minutes(2)),
  .enabled(if: EtcdFixture.binary != nil, "there is no etcd"))
struct StoreClientTests {
  private func client(_ etcd: EtcdFixture, first: Int = 0) -> StoreClient {
    var limits = StoreClient.Limits()
    limits.attemptTimeout = .milliseconds(700)
    limits.watchSilence = .seconds(2)
    return StoreClient(
      endpoints: etcd.endpoints, first: first, limits: limits, connect: HTTP2Transport.connector())
  }

  private func put(_ client: StoreClient, _ key: String, _ value: String) async throws {
    try await client.put(Array(key.utf8), Array(value.utf8))
  }

  @Test("reads what it wrote, in pages and at older revisions")
  func reading() async throws {
    let etcd = try EtcdFixture()
    let store = client(etcd)
    for index in 0..<5 { try await put(store, "/a/\(index)", "old") }
    let before = try await store.currentRevision()
    try await put(store, "/a/0", "new")
    var query = StoreQuery(.prefix(Array("/a/".utf8)), limit: 2)
    let first = try await store.read(query)
    #expect(first.records.count == 2 && first.hasMore && first.count == 5)
    #expect(first.records[0].value == Array("new".utf8))
    query.revision = before
    #expect(try await store.read(query).records[0].value == Array("old".utf8))
    query.revision = Revision(first.revision.rawValue + 1_000)
    let error = await #expect(throws: StoreError.self) { try await store.read(query) }
    #expect(error?.code == .futureRevision)
  }

  @Test("swaps only what is at the expected revision, and shows what is there instead")
  func swapping() async throws {
    let etcd = try EtcdFixture()
    let store = client(etcd)
    let key = Array("/k".utf8)
    func swap(_ expected: Revision, _ change: StoreSwap.Change) async throws -> StoreSwapOutcome {
      try await store.swap(StoreSwap(key: key, expected: expected, change: change))
    }
    guard case .done(let made) = try await swap(.zero, .put(value: [1], lease: .none)) else {
      Issue.record("the key was there")
      return
    }
    guard case .conflict(let current?) = try await swap(.zero, .put(value: [2], lease: .none))
    else {
      Issue.record("made twice")
      return
    }
    #expect(current.value == [1] && current.modRevision == made)
    guard case .done = try await swap(made, .delete) else {
      Issue.record("not deleted")
      return
    }
    guard case .conflict(nil) = try await swap(made, .delete) else {
      Issue.record("deleted twice")
      return
    }
  }

  @Test("gives keys a lease, and says so where it has ended")
  func leases() async throws {
    let etcd = try EtcdFixture()
    let store = client(etcd)
    let lease = try await store.grantLease(seconds: 100)
    try await store.put([1], [1], lease: lease)
    #expect(try await store.read(StoreQuery(.key([1]))).records.first?.lease == lease)
    try await store.revokeLease(lease)
    #expect(try await store.read(StoreQuery(.key([1]))).records.isEmpty)
    let error = await #expect(throws: StoreError.self) {
      try await store.put([1], [1], lease: lease)
    }
    #expect(error?.code == .leaseNotFound)
  }

  @Test("says that a watch's start was compacted away")
  func compaction() async throws {
    let etcd = try EtcdFixture()
    let store = client(etcd)
    for value in 0..<4 { try await put(store, "/k", "\(value)") }
    let revision = try await store.currentRevision()
    let endpoint = etcd.endpoints[0]
    let outcome = try Shell.run(
      "curl -sf -X POST http://\(endpoint)/v3/kv/compaction -d '{\"revision\":\(revision)}'")
    #expect(outcome.code == 0)
    let error = await #expect(throws: StoreError.self) {
      try await store.watch(.prefix(Array("/".utf8)), from: Revision(2)) { _ in }
    }
    #expect(error?.code == .compacted)
    #expect(error?.compactRevision == revision)
  }

  @Test("goes on through the members that are left, and its watch misses nothing")
  func failover() async throws {
    let etcd = try EtcdFixture(members: 3)
    let store = client(etcd)
    let writer = client(etcd, first: 2)
    let seen = Mutex<[String]>([])
    try await put(store, "/w/start", "")
    let start = try await store.currentRevision()
    let watching = Task {
      try await store.watch(.prefix(Array("/w/".utf8)), from: start.next) { update in
        guard case .changes(let changes) = update else { return }
        seen.withLock { seen in
          seen += changes.map { String(decoding: $0.record.key, as: UTF8.self) }
        }
      }
    }
    defer { watching.cancel() }
    var expected: [String] = []
    func write(_ range: Range<Int>) async throws {
      for index in range {
        // The outcome of a write may be unknown while a new leader is found; it is the same write.
        while true {
          do {
            try await put(writer, "/w/\(index)", "x")
            break
          } catch let error as StoreError where error.code == .unknownOutcome {}
        }
        expected.append("/w/\(index)")
      }
    }
    try await write(0..<10)
    // The member that the watch is on freezes: no reset, no answer, nothing.
    etcd.freeze(0)
    try await write(10..<20)
    #expect(try await store.read(StoreQuery(.prefix(Array("/w/".utf8)))).count == 21)
    etcd.thaw(0)
    etcd.killMember(1)
    try await write(20..<30)
    #expect(try await store.read(StoreQuery(.prefix(Array("/w/".utf8)))).count == 31)
    for _ in 0..<200 {
      if seen.withLock({ Set($0).count }) == 30 { break }
      try await Task.sleep(for: .milliseconds(50))
    }
    // A write that was tried again may be there twice, and the first attempt may take effect as late as the
    // frozen member thaws and passes it on; but nothing is missing, and first occurrences are in order.
    var known: Set<String> = []
    let firsts = seen.withLock { $0 }.filter { known.insert($0).inserted }
    #expect(firsts == expected)
  }

  @Test("fails within its time where no member is there")
  func nobody() async throws {
    var limits = StoreClient.Limits()
    limits.requestTimeout = .milliseconds(500)
    let store = StoreClient(
      endpoints: [.init(host: "127.0.0.1", port: 43_009)], limits: limits,
      connect: HTTP2Transport.connector())
    let start = ContinuousClock.now
    let error = await #expect(throws: StoreError.self) { try await store.currentRevision() }
    #expect(error?.code == .unavailable)
    #expect(ContinuousClock.now - start < .seconds(5))
  }

  @Test(
    "reads endpoints as people write them",
    arguments: [
      ("http://127.0.0.1:2379", "127.0.0.1:2379"), ("localhost", "localhost:2379"),
      ("https://store:1234/", "store:1234"), ("[::1]:2380", "::1:2380"),
    ])
  func endpoints(_ text: String, _ expected: String) {
    #expect(StoreClient.Endpoint(text)?.description == expected)
  }

  @Test("refuses endpoints that are none", arguments: ["", "ftp://x", "host:0", "host:x", "a/b"])
  func badEndpoints(_ text: String) { #expect(StoreClient.Endpoint(text) == nil) }
}
