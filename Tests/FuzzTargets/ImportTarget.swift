import EtcdImport
import MVCC
import Primitives

/// The input as an etcd database, the checksums of its meta pages made right. What is taken over must be a state
/// that a member could have: its own snapshot reads back to the same.
func fuzzImport(_ bytes: [UInt8]) {
  var database = bytes
  BoltFixture.repairMetas(of: &database)
  guard let (store, _) = try? importDatabase(database) else { return }
  let view = store.publish()
  var source = view.snapshot()
  var restorer = StoreRestorer()
  do {
    while let piece = source.next() { try restorer.restore(piece) }
    let restored = try restorer.finish().publish()
    invariant(
      restored.revision == view.revision && restored.keyCount == view.keyCount
        && restored.compactRevision == view.compactRevision
        && restored.leaseCount == view.leaseCount,
      "an imported store's snapshot reads differently")
  } catch { invariantFailure("an imported store's own snapshot is refused: \(error)") }
}

/// Reads a database that is in memory.
public func importDatabase(
  _ bytes: [UInt8]
) throws -> (store: Store, summary: EtcdBackend.Summary) {
  try EtcdBackend(size: UInt64(bytes.count)) { offset, count in
    guard offset <= UInt64(bytes.count) else { return [] }
    return Array(bytes[Int(offset)...].prefix(count))
  }.load(stateHash: 1)
}

func importSeeds() -> [[UInt8]] {
  [
    BoltFixture.database(BackendFixture.everything()),
    BoltFixture.database(BackendFixture.everything(compacted: 0)),
    BoltFixture.database(BackendFixture.everything(compacted: 6), transaction: 9),
  ]
}
