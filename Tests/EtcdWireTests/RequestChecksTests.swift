import Testing

@testable import EtcdWire

/// A transaction under construction, for tests.
private struct Txn {
  enum Operation {
    case put(String)
    case delete(String, end: String = "")
    case get(String)
    case txn(Txn)
    case nothing
  }

  var compare: [String] = []
  var then: [Operation] = []
  var otherwise: [Operation] = []

  init(if compare: [String] = [], then: [Operation] = [], else otherwise: [Operation] = []) {
    self.compare = compare
    self.then = then
    self.otherwise = otherwise
  }

  var encoded: [UInt8] {
    var output: [UInt8] = []
    for key in compare {
      Array(key.utf8).withUnsafeBytes { bytes in
        var predicate = Compare()
        predicate.key = bytes
        output.append(field: 1, message: predicate)
      }
    }
    for operation in then { append(operation, field: 2, to: &output) }
    for operation in otherwise { append(operation, field: 3, to: &output) }
    return output
  }

  private func append(_ operation: Operation, field: UInt32, to output: inout [UInt8]) {
    let mark = output.beginMessage(field: field)
    defer { output.endMessage(mark) }
    switch operation {
    case .put(let key):
      let put = output.beginMessage(field: 2)
      Array(key.utf8).withUnsafeBytes { output.append(field: 1, bytes: $0) }
      output.endMessage(put)
    case .delete(let key, let end):
      let delete = output.beginMessage(field: 3)
      Array(key.utf8).withUnsafeBytes { output.append(field: 1, bytes: $0) }
      Array(end.utf8).withUnsafeBytes { output.append(field: 2, bytes: $0) }
      output.endMessage(delete)
    case .get(let key):
      let range = output.beginMessage(field: 1)
      Array(key.utf8).withUnsafeBytes { output.append(field: 1, bytes: $0) }
      output.endMessage(range)
    case .txn(let txn):
      txn.encoded.withUnsafeBytes { output.append(field: 4, encoded: $0) }
    case .nothing: break
    }
  }

  func check(maximumOperations: Int = 128) throws -> EtcdError? {
    try encoded.withUnsafeBytes { try TxnRequest($0).check(maximumOperations: maximumOperations) }
  }
}

@Suite("What is refused before it is proposed")
struct RequestChecksTests {
  @Test("A key must be given")
  func emptyKeys() throws {
    #expect(RangeRequest().check() == .emptyKey)
    #expect(PutRequest().check() == .emptyKey)
    #expect(DeleteRangeRequest().check() == .emptyKey)
    #expect(try Txn(if: [""]).check() == .emptyKey)
    #expect(try Txn(then: [.put("")]).check() == .emptyKey)
    #expect(try Txn(else: [.get("")]).check() == .emptyKey)
    #expect(try Txn(then: [.txn(Txn(else: [.delete("")]))]).check() == .emptyKey)
  }

  @Test("An operation must be one")
  func emptyOperation() throws {
    #expect(try Txn(then: [.nothing]).check() == .keyNotFound)
  }

  @Test("What is kept must not be given")
  func keptAndGiven() {
    [UInt8(1)].withUnsafeBytes { bytes in
      var put = PutRequest()
      put.key = bytes
      put.ignoresValue = true
      put.ignoresLease = true
      #expect(put.check() == nil)
      put.lease = 1
      #expect(put.check() == .leaseProvided)
      put.value = bytes
      #expect(put.check() == .valueProvided)
    }
  }

  @Test("Sort options must exist, and a stream takes none")
  func sorting() {
    [UInt8(1)].withUnsafeBytes { bytes in
      var range = RangeRequest()
      range.key = bytes
      range.sortOrder = .ascending
      #expect(range.check() == nil && range.checkForStream() == nil)
      range.sortTarget = .modRevision
      #expect(range.check() == nil && range.checkForStream() == .rangeStreamSortOrder)
      range.sortOrder = .none
      #expect(range.checkForStream() == nil)
      range.minModRevision = 1
      #expect(range.checkForStream() == .rangeStreamRevisionFilter)
      range.sortTarget = .init(rawValue: 5)
      #expect(range.check() == .invalidSortOption)
      range.sortTarget = .key
      range.sortOrder = .init(rawValue: -1)
      #expect(range.check() == .invalidSortOption)
    }
  }

  @Test("Leases may live for 9,000,000,000 seconds")
  func leases() {
    var grant = LeaseGrantRequest()
    grant.timeToLive = 9_000_000_000
    #expect(grant.check() == nil)
    grant.timeToLive += 1
    #expect(grant.check() == .leaseTimeToLiveTooLarge)
  }

  @Test("The longest list counts against the limit, and nested ones get the rest")
  func operationCount() throws {
    let three = Txn(then: [.get("a"), .get("b"), .get("c")])
    #expect(try three.check(maximumOperations: 3) == nil)
    #expect(try three.check(maximumOperations: 2) == .tooManyOperations)
    let nested = Txn(then: [.txn(three)])
    #expect(try nested.check(maximumOperations: 4) == nil)
    #expect(try nested.check(maximumOperations: 3) == .tooManyOperations)
    #expect(
      try Txn(if: ["a", "b"], then: [.get("a")]).check(maximumOperations: 1) == .tooManyOperations)
  }

  @Test("A key is put at most once, whatever else a transaction does")
  func duplicatePuts() throws {
    #expect(try Txn(then: [.put("a"), .put("b")]).check() == nil)
    #expect(try Txn(then: [.put("a"), .get("a"), .put("a")]).check() == .duplicateKey)
    #expect(try Txn(then: [.put("a")], else: [.put("a")]).check() == nil)
    let putA = Txn(then: [.put("a")])
    #expect(try Txn(then: [.txn(putA), .put("a")]).check() == .duplicateKey)
    #expect(try Txn(then: [.put("a"), .txn(putA)]).check() == .duplicateKey)
    #expect(try Txn(then: [.txn(putA), .txn(putA)]).check() == .duplicateKey)
    #expect(try Txn(then: [.txn(putA), .txn(Txn(then: [.put("b")]))]).check() == nil)
    // Only one branch of the nested transaction is taken.
    #expect(try Txn(then: [.txn(Txn(then: [.put("a")], else: [.put("a")]))]).check() == nil)
    let either = Txn(then: [.put("a")], else: [.put("a")])
    #expect(try Txn(then: [.txn(either), .put("a")]).check() == .duplicateKey)
  }

  @Test("What is deleted is not put")
  func deletedAndPut() throws {
    #expect(try Txn(then: [.delete("a"), .put("a")]).check() == .duplicateKey)
    #expect(try Txn(then: [.put("a"), .delete("a")]).check() == .duplicateKey)
    #expect(try Txn(then: [.delete("a", end: "c"), .put("b")]).check() == .duplicateKey)
    #expect(try Txn(then: [.delete("a", end: "c"), .put("c")]).check() == nil)
    #expect(try Txn(then: [.delete("c", end: "a"), .put("b")]).check() == nil)
    #expect(try Txn(then: [.delete("a", end: "\0"), .put("z")]).check() == nil)
    #expect(try Txn(then: [.delete("b", end: "\0"), .put("a")]).check() == nil)
    // Several ranges that overlap, and one inside another.
    let ranges: [Txn.Operation] = [
      .delete("d", end: "f"), .delete("a", end: "c"), .delete("b", end: "e"), .delete("c"),
    ]
    for (key, expected) in [
      ("e", EtcdError.duplicateKey), ("f", nil), ("A", nil), ("c", .duplicateKey),
    ] {
      #expect(try Txn(then: ranges + [.put(key)]).check() == expected, "\(key)")
    }
    #expect(try Txn(then: [.delete("a"), .delete("a")]).check() == nil)
    let deleteA = Txn(then: [.delete("a")])
    #expect(try Txn(then: [.txn(deleteA), .put("a")]).check() == .duplicateKey)
    #expect(try Txn(then: [.txn(deleteA), .txn(Txn(then: [.put("a")]))]).check() == .duplicateKey)
    // etcd's rule looks back, not ahead, among nested transactions.
    #expect(try Txn(then: [.txn(Txn(then: [.put("a")])), .txn(deleteA)]).check() == nil)
  }
}

@Suite("Errors and the canonical form")
struct ErrorAndCanonicalTests {
  @Test("Every error has its own row, and its text leads back to it")
  func errorTable() {
    #expect(EtcdError.tableIsInOrder)
    for error in EtcdError.allCases { #expect(EtcdError(text: error.text) == error) }
    #expect(EtcdError.compacted.status == .outOfRange)
    #expect(EtcdError.compacted.text == "etcdserver: mvcc: required revision has been compacted")
  }

  /// What goes into the log for `bytes`; nil if they do themselves.
  private func canonical(_ request: LoggedRequest, _ bytes: [UInt8]) throws -> [UInt8]? {
    try bytes.withUnsafeBytes { try request.canonicalized($0) }
  }

  @Test("Known bytes stay as they are; unknown fields go")
  func canonicalForm() throws {
    let known: [UInt8] = [0x12, 0, 0x0A, 1, 0x61, 0x0A, 1, 0x62]
    #expect(try canonical(.put, known) == nil)
    #expect(try canonical(.put, known + [0x98, 0x06, 1]) == [0x0A, 1, 0x62])
    // An unknown field deep inside a transaction: success { request_put { key, unknown } }.
    let nested: [UInt8] = [0x12, 8, 0x12, 6, 0x0A, 1, 0x61, 0x98, 0x06, 1]
    #expect(try canonical(.txn, nested) == [0x12, 5, 0x12, 3, 0x0A, 1, 0x61])
  }
}
