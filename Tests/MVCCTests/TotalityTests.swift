import EtcdWire
import Primitives
import Testing

@testable import MVCC

/// Whatever a quorum has committed, every member gets through it in the same way.
@Suite struct TotalityTests {
  /// Bytes that are more and less like commands.
  struct PayloadSource {
    var source: OperationSource
    var model = Model()

    init(seed: UInt64) { source = OperationSource(seed: seed) }

    mutating func payload() -> [UInt8] {
      var commands: [UInt8] = []
      let count = source.random.below(4)
      for _ in 0..<count {
        // Revisions in requests are drawn around this.
        model.revision = Int64(source.random.below(200)) + 1
        var body: [UInt8]
        var kind = CommandKind(rawValue: UInt8(source.random.below(10)))
        if source.random.oneIn(4) { kind = .auth }
        switch source.random.below(6) {
        case 0: body = source.put().encoded()
        case 1: body = source.delete().encoded()
        case 2, 3: body = source.txn(model).encoded()
        case 4: body = source.range(model).encoded()
        default: body = (0..<source.random.below(40)).map { _ in byte() }
        }
        if kind == .auth { body = authCommand().encoded() }
        if source.random.oneIn(3) { damage(&body) }
        let user = source.random.oneIn(3) ? Array("root".utf8) : name()
        let extra = (0..<source.random.below(3) * 8).map { _ in byte() }
        extra.withUnsafeBytes { extra in
          body.withUnsafeBytes { body in
            user.withUnsafeBytes { user in
              let revision = source.random.oneIn(4) ? source.random.below(40) : 1_000
              CommandBatch.append(
                kind, extra: extra,
                authorization: source.random.oneIn(5)
                  ? nil : CommandBatch.Authorization(revision: revision, user: user),
                body: body, to: &commands)
            }
          }
        }
      }
      var payload = batch(commands, count: UInt32(count))
      if source.random.oneIn(4) { damage(&payload) }
      return payload
    }

    private mutating func byte() -> UInt8 {
      // Small numbers make valid tags, lengths and ids.
      UInt8(truncatingIfNeeded: source.random.below(source.random.oneIn(2) ? 256 : 12))
    }

    private mutating func name() -> [UInt8] {
      Array(["", "root", "a", "b"][Int(source.random.below(4))].utf8)
    }

    private mutating func authCommand() -> AuthCommand {
      switch source.random.below(14) {
      case 0, 1, 2: .enable
      case 3: source.random.oneIn(4) ? .disable : .enable
      case 4: .authenticate(user: name(), tokenPrefix: name(), revision: source.random.below(9))
      case 5: .addUser(name: name(), passwordHash: name(), hasNoPassword: source.random.oneIn(2))
      case 6: .deleteUser(name: name())
      case 7: .changePassword(name: name(), passwordHash: name())
      case 8, 9: .grantRole(user: name(), role: name())
      case 10: .revokeRole(user: name(), role: name())
      case 11: source.random.oneIn(2) ? .addRole(name: name()) : .deleteRole(name: name())
      case 12:
        .grantPermission(
          role: name(),
          AuthPermission(
            kind: source.random.oneIn(2) ? .readWrite : .read, key: source.key(),
            rangeEnd: source.random.oneIn(2) ? source.key() : []))
      default: .revokePermission(role: name(), key: source.key(), rangeEnd: [])
      }
    }

    private mutating func damage(_ bytes: inout [UInt8]) {
      for _ in 0...source.random.below(3) where !bytes.isEmpty {
        let place = Int(source.random.below(UInt64(bytes.count)))
        switch source.random.below(4) {
        case 0: bytes[place] = byte()
        case 1: bytes.remove(at: place)
        case 2: bytes.insert(byte(), at: place)
        default: bytes.removeLast(bytes.count - place)
        }
      }
    }
  }

  @Test("Damaged and senseless entries neither stop a member nor part two", arguments: 0..<40)
  func damagedEntries(seed: Int) {
    var payloads = PayloadSource(seed: UInt64(seed))
    let store = Store()
    let other = Store()
    var registry = WatchRegistry()
    _ = registry.register(
      WatchRange(key: [0], rangeEnd: [0]), filter: [], wantsPrevious: true)
    for index in 1...300 as ClosedRange<UInt64> {
      let payload = payloads.payload()
      let applied = store.apply(
        payload, at: LogIndex(index), term: Term(1), wantsResults: true)
      _ = other.apply(payload, at: LogIndex(index), term: Term(1), wantsResults: false)
      #expect(store.stateHash == other.stateHash)
      #expect(store.revision == other.revision)
      _ = registry.match(applied.events, in: store.publish())
      store.runMaintenance(budget: 5)
      // Each lease and range request that came by is read as well, for views must stand them too.
      for kind in [8, 24] where payload.count > kind {
        readEverything(store.publish(), Array(payload[kind...]))
      }
    }
    store.validate()
    other.validate()
    #expect(snapshot(store.publish()) == snapshot(other.publish()))
  }

  private func readEverything(_ view: StoreView, _ bytes: [UInt8]) {
    bytes.withUnsafeBytes { bytes in
      var output: [UInt8] = []
      if let request = try? RangeRequest(bytes) { try? view.range(request, into: &output) }
      if let request = try? TxnRequest(bytes) { try? view.transaction(request, into: &output) }
    }
  }

  @Test("Transactions nested too deeply are refused, however deep")
  func deepNesting() {
    var txn: [UInt8] = []
    for _ in 0..<20_000 {
      var operation: [UInt8] = []
      operation.append(field: 4, message: txn)
      txn = []
      txn.append(field: 2, message: operation)
      if txn.count > 60_000 { break }
    }
    var commands: [UInt8] = []
    txn.withUnsafeBytes { CommandBatch.append(.txn, body: $0, to: &commands) }
    let applied = Store().apply(
      batch(commands, count: 1), at: LogIndex(1), term: Term(1), wantsResults: true)
    #expect(Printer.result(applied.results[0], .txn) == "error: malformedRequest")
  }

  @Test("A snapshot with any byte changed or missing is refused or makes a valid store")
  func damagedSnapshots() throws {
    var source = OperationSource(seed: 77)
    let store = Store()
    for index in 1...40 as ClosedRange<UInt64> {
      var commands: [UInt8] = []
      source.put().encoded().withUnsafeBytes {
        CommandBatch.append(.put, body: $0, to: &commands)
      }
      CommandBatch.appendLeaseGrant(
        id: LeaseID(Int64(index % 5) + 1), minimumSeconds: 1, body: .none, to: &commands)
      _ = store.apply(
        batch(commands, count: 2), at: LogIndex(index), term: Term(1), wantsResults: false)
    }
    try store.compact(store.revision.rawValue / 2)
    let bytes = Array(snapshot(store.publish()).joined())
    var refused = 0
    for place in bytes.indices {
      for change in [1, 0x80, 0xFF] as [UInt8] {
        var damaged = bytes
        damaged[place] ^= change
        do {
          let restored = try restore([damaged])
          restored.validate()
        } catch { refused += 1 }
      }
      if place % 7 == 0 {
        #expect(throws: SnapshotError.self) { try restore([Array(bytes[..<place])]) }
      }
    }
    // Damage inside keys and values is for checksums to find.
    #expect(refused > bytes.count / 4)

    // Cut anywhere, the stream is the same.
    let pieces = stride(from: 0, to: bytes.count, by: 11).map {
      Array(bytes[$0..<min($0 + 11, bytes.count)])
    }
    #expect(try restore(pieces).stateHash == store.stateHash)
    #expect(throws: SnapshotError.self) { try restore([bytes, [0]]) }
  }
}
