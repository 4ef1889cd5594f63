import Bolt
import EtcdImport
import EtcdWire
import FuzzTargets
import MVCC
import Primitives
import Testing

/// What an etcd database holds is what the store then shows. A real etcd's are imported in ConformanceTests.
@Suite struct EtcdBackendTests {
  @Test("Everything in a backend is taken over: history, leases, users, roles, alarms")
  func everything() throws {
    let (store, summary) = try importDatabase(
      BoltFixture.database(BackendFixture.everything(compacted: 0)))
    let view = store.publish()
    #expect(
      summary
        == EtcdBackend.Summary.of {
          $0.revision = 6
          $0.keys = 3
          $0.olderRecords = 3
          $0.leases = 1
          $0.users = 2
          $0.roles = 2
          $0.isAuthEnabled = true
          $0.alarms = [EtcdAlarm(member: 5, kind: 1)]
        })
    #expect(view.revision == Revision(6) && view.compactRevision == Revision(-1))
    #expect(try get(view, "a") == nil, "it was deleted")
    #expect(try get(view, "a", at: 2) == "1 created 2 modified 2 version 1 lease 0")
    #expect(try get(view, "a", at: 4) == "2 created 2 modified 4 version 2 lease 0")
    #expect(try get(view, "b") == "1 created 3 modified 3 version 1 lease 7")
    let lease = try #require(view.lease(LeaseID(7)))
    #expect(lease.granted == 600 && lease.remaining == 90 && lease.keyCount == 1)
    let auth = view.auth
    #expect(auth.isEnabled && auth.revision == 9)
    #expect(auth.user(Array("reader".utf8))?.hasNoPassword == true)
    #expect(auth.user(Array("reader".utf8))?.roles == [Array("read".utf8)])
    #expect(
      auth.role(Array("read".utf8))?.permissions
        == [AuthPermission(kind: .read, key: Array("a".utf8), rangeEnd: Array("c".utf8))])
  }

  @Test(
    "Compaction that was scheduled holds, whatever of it was done", arguments: [4, 5, 6] as [Int64])
  func compaction(at revision: Int64) throws {
    let (store, summary) = try importDatabase(
      BoltFixture.database(BackendFixture.everything(compacted: revision)))
    let view = store.publish()
    #expect(summary.compactRevision == revision && view.compactRevision == Revision(revision))
    #expect(throws: ApplyError.self) { try get(view, "a", at: revision - 1) }
    #expect(try get(view, "b", at: revision) == "1 created 3 modified 3 version 1 lease 7")
    #expect(
      try get(view, "a", at: revision)
        == (revision == 4 ? "2 created 2 modified 4 version 2 lease 0" : nil))
    #expect(try get(view, "d") == "1 created 6 modified 6 version 1 lease 0")
  }

  @Test("Where all is deleted and compacted, the revision is still the cluster's")
  func nothingLeft() throws {
    let (store, _) = try importDatabase(
      BoltFixture.database([
        .init("key", []),
        .init("meta", [(Array("finishedCompactRev".utf8), BackendFixture.revision(40))]),
      ]))
    #expect(store.revision == Revision(40) && store.compactRevision == Revision(40))
  }

  @Test("A key whose lease is gone is kept without it")
  func strayLease() throws {
    let (store, summary) = try importDatabase(
      BoltFixture.database([
        .init(
          "key",
          [
            (
              BackendFixture.revision(2),
              BackendFixture.record("a", "1", create: 2, mod: 2, version: 1, lease: 9)
            ),
            (
              BackendFixture.revision(3),
              BackendFixture.record("a", "2", create: 2, mod: 3, version: 2, lease: 9)
            ),
          ])
      ]))
    #expect(summary.keysWithoutTheirLease == 1)
    #expect(try get(store.publish(), "a") == "2 created 2 modified 3 version 2 lease 0")
  }

  @Test("The newer of two sound meta pages counts, and the older one if the newer is torn")
  func metas() throws {
    var bytes = BoltFixture.database(BackendFixture.everything(), transaction: 8)
    #expect(try importDatabase(bytes).summary.keys == 3)
    bytes[70] ^= 1
    #expect(throws: EtcdBackendError.self, "the older one's root has no bucket") {
      try importDatabase(bytes)
    }
    bytes[512 + 70] ^= 1
    #expect(throws: BoltError.self) { try importDatabase(bytes) }
  }

  @Test(
    "A first meta page that is damaged doesn't hide how long pages are",
    arguments: [512, 4096, 65_536])
  func pageLengths(pageBytes: Int) throws {
    var bytes = BoltFixture.database(
      BackendFixture.everything(), pageBytes: pageBytes, transaction: 9)
    bytes[30] ^= 1
    #expect(try importDatabase(bytes).summary.keys == 3)
  }

  @Test("What can't be is said, and where")
  func damage() throws {
    func message(_ buckets: [BoltFixture.Bucket]) -> String {
      do {
        _ = try importDatabase(BoltFixture.database(buckets))
        return "nothing"
      } catch { return "\(error)" }
    }
    #expect(message([]) == "there is no bucket 'key': this is no etcd v3 database")
    #expect(
      message([.init("key", [([1, 2], [])])]) == "bucket 'key' holds a key that is no revision")
    #expect(
      message([
        .init(
          "key",
          [
            (
              BackendFixture.revision(3),
              BackendFixture.record("a", "", create: 2, mod: 2, version: 1)
            )
          ])
      ]) == "the record of revision 3 says that it is of revision 2")
    #expect(
      message([.init("key", [(BackendFixture.revision(3, 0, isTombstone: true), [0x0A, 1, 97])])])
        == "the record of revision 3 doesn't fit those before it: an impossible deletion")
    #expect(
      message([.init("key", []), .init("auth", [(Array("authEnabled".utf8), [1])])])
        .hasPrefix("the users and roles make no sense"))
    let whole = BoltFixture.database(BackendFixture.everything())
    for length in stride(from: 0, to: whole.count, by: 97) {
      #expect(throws: (any Error).self) { try importDatabase(Array(whole.prefix(length))) }
    }
  }

  @Test("Pages that lead in circles come to an end")
  func circles() throws {
    var bytes = BoltFixture.database([
      .init(
        "key",
        (2...9).map {
          (
            BackendFixture.revision($0),
            BackendFixture.record("k\($0)", "", create: $0, mod: $0, version: 1)
          )
        }, entriesPerLeaf: 2)
    ])
    // The branch's last child becomes the branch itself.
    let branch = try #require(
      stride(from: 0, to: bytes.count, by: 512).first { bytes[$0 + 8] == 1 && bytes[$0] > 1 })
    bytes[branch + 16 + 3 * 16 + 8] = UInt8(branch / 512)
    #expect(throws: BoltError.self) { try importDatabase(bytes) }
  }

  private func get(_ view: StoreView, _ key: String, at revision: Int64 = 0) throws -> String? {
    var output: [UInt8] = []
    try Array(key.utf8).withUnsafeBytes { key in
      var request = RangeRequest()
      request.key = key
      request.revision = revision
      try view.range(request, into: &output)
    }
    return try output.withUnsafeBytes { bytes in
      try RangeResponse(bytes).keyValues.first.map {
        """
        \(String(decoding: $0.value, as: UTF8.self)) created \($0.createRevision) modified \
        \($0.modRevision) version \($0.version) lease \($0.lease)
        """
      }
    }
  }
}

extension EtcdBackend.Summary {
  static func of(_ set: (inout EtcdBackend.Summary) -> Void) -> EtcdBackend.Summary {
    var summary = EtcdBackend.Summary()
    set(&summary)
    return summary
  }
}
