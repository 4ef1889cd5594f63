import EtcdWire
import Testing

/// Runs `body` with the bytes of `text`.
private func withBytes<Result>(
  _ text: String, _ body: (UnsafeRawBufferPointer) throws -> Result
) rethrows -> Result {
  try Array(text.utf8).withUnsafeBytes(body)
}

extension UnsafeRawBufferPointer {
  fileprivate var text: String { String(decoding: self, as: UTF8.self) }
}

@Suite("Messages as views")
struct MessageTests {
  @Test("A put is read without copying its key or value")
  func putBorrows() throws {
    let bytes: [UInt8] = [0x0A, 1, 0x61, 0x12, 2, 0x62, 0x63, 0x18, 7, 0x20, 1]
    try bytes.withUnsafeBytes { buffer in
      let put = try PutRequest(buffer)
      #expect(put.key.text == "a")
      #expect(put.key.baseAddress == buffer.baseAddress! + 2)
      #expect(put.value.text == "bc")
      #expect(put.lease == 7)
      #expect(put.wantsPrevious)
      #expect(!put.ignoresValue && !put.ignoresLease && !put.hasUnknownFields)
    }
  }

  @Test("A range has all its options")
  func range() throws {
    var request = RangeRequest()
    request.limit = 1
    request.revision = 2
    request.sortOrder = .descending
    request.sortTarget = .value
    request.serializable = true
    request.countOnly = true
    request.minModRevision = 3
    request.maxModRevision = 4
    request.minCreateRevision = -5
    request.maxCreateRevision = 6
    try request.encoded().withUnsafeBytes { bytes in
      let read = try RangeRequest(bytes)
      #expect(read.limit == 1 && read.revision == 2)
      #expect(read.sortOrder == .descending && read.sortTarget == .value)
      #expect(read.serializable && !read.keysOnly && read.countOnly)
      #expect(read.minModRevision == 3 && read.maxModRevision == 4)
      #expect(read.minCreateRevision == -5 && read.maxCreateRevision == 6)
      #expect(read.key.isEmpty && read.rangeEnd.isEmpty)
    }
  }

  @Test("A record has exactly its computed size, and its value comes last")
  func record() throws {
    try withBytes("key") { key in
      try withBytes(String(repeating: "v", count: 200)) { value in
        let record = KeyValue(
          key: key, createRevision: 2, modRevision: 300, version: 4, value: value, lease: -1)
        let encoded = record.encoded()
        #expect(encoded.count == record.encodedSize)
        var appended: [UInt8] = []
        record.append(to: &appended)
        #expect(appended == encoded)
        try encoded.withUnsafeBytes { bytes in
          let whole = try KeyValue(bytes)
          #expect(whole.key.text == "key" && whole.value.count == 200 && whole.lease == -1)
          let prefix = UnsafeRawBufferPointer(rebasing: bytes[..<record.encodedSizeWithoutValue])
          let withoutValue = try KeyValue(prefix)
          #expect(withoutValue.key.text == "key" && withoutValue.value.isEmpty)
          #expect(withoutValue.createRevision == 2 && withoutValue.modRevision == 300)
          #expect(withoutValue.version == 4 && withoutValue.lease == -1)
        }
      }
    }
  }

  /// if mod("k") == 5 then put("k", "v") else get("k"), as Kubernetes updates an object
  private var kubernetesUpdate: [UInt8] {
    var txn: [UInt8] = []
    withBytes("k") { key in
      var compare = Compare()
      compare.target = .modRevision
      compare.key = key
      compare.operand = .modRevision(5)
      txn.append(field: 1, message: compare)
      withBytes("v") { value in
        var put = PutRequest()
        put.key = key
        put.value = value
        txn.append(field: 2, message: RequestOp(.put(put)))
      }
      var get = RangeRequest()
      get.key = key
      txn.append(field: 3, message: RequestOp(.range(get)))
    }
    return txn
  }

  @Test("A transaction's lists are walked through in order")
  func transaction() throws {
    try kubernetesUpdate.withUnsafeBytes { bytes in
      let txn = try TxnRequest(bytes)
      #expect(txn.compare.count == 1 && txn.success.count == 1 && txn.failure.count == 1)
      let compare = try #require(txn.compare.first)
      #expect(compare.key.text == "k" && compare.number == 5 && compare.relation == .equal)
      guard case .put(let put)? = txn.success.first?.request else {
        Issue.record("the success list holds no put")
        return
      }
      #expect(put.key.text == "k" && put.value.text == "v")
      guard case .range(let range)? = txn.failure.first?.request else {
        Issue.record("the failure list holds no range")
        return
      }
      #expect(range.key.text == "k")
    }
  }

  @Test("A transaction's lists may be mixed on the wire")
  func mixedLists() throws {
    let update = kubernetesUpdate
    try (update + update + update).withUnsafeBytes { bytes in
      let txn = try TxnRequest(bytes)
      #expect(txn.compare.count == 3 && txn.success.count == 3 && txn.failure.count == 3)
      #expect(txn.compare.map(\.key.text) == ["k", "k", "k"])
      #expect(Array(txn.success).count == 3 && Array(txn.failure).count == 3)
    }
  }

  @Test("An operand that is not the target's counts as zero")
  func foreignOperand() {
    var compare = Compare()
    compare.target = .version
    compare.operand = .modRevision(9)
    #expect(compare.number == 0 && compare.value.isEmpty)
  }

  @Test("Transactions may be nested up to the limit and no deeper")
  func nesting() throws {
    var txn: [UInt8] = []
    for depth in 1...(WireLimits.nestedTransactions + 1) {
      // A transaction whose success list holds the one so far.
      var outer: [UInt8] = []
      let operation = outer.beginMessage(field: 2)
      txn.withUnsafeBytes { outer.append(field: 4, encoded: $0) }
      outer.endMessage(operation)
      txn = outer
      try txn.withUnsafeBytes { bytes in
        if depth <= WireLimits.nestedTransactions {
          _ = try TxnRequest(bytes)
        } else {
          #expect(throws: WireError.nestedTooDeep) { try TxnRequest(bytes) }
        }
      }
    }
  }

  @Test("A watch may be created, cancelled and asked for progress")
  func watch() throws {
    var create = WatchCreateRequest()
    create.startRevision = 8
    create.filters = [.noDelete]
    create.wantsPrevious = true
    create.watchID = 3
    create.fragments = true
    try WatchRequest(.create(create)).encoded().withUnsafeBytes { bytes in
      guard case .create(let read) = try WatchRequest(bytes).request else {
        Issue.record("not a create request")
        return
      }
      #expect(read.startRevision == 8 && read.filters == [.noDelete] && read.watchID == 3)
      #expect(read.wantsPrevious && read.fragments && !read.wantsProgress)
    }
    try WatchRequest(.cancel(watchID: 0)).encoded().withUnsafeBytes { bytes in
      guard case .cancel(watchID: 0) = try WatchRequest(bytes).request else {
        Issue.record("not a cancel request")
        return
      }
    }
    try WatchRequest(.progress).encoded().withUnsafeBytes { bytes in
      guard case .progress = try WatchRequest(bytes).request else {
        Issue.record("not a progress request")
        return
      }
    }
  }

  @Test(
    "Lengths that need more than one byte move the content up", arguments: [0, 127, 128, 16384])
  func longMessages(length: Int) throws {
    var output: [UInt8] = [0xFF]
    let mark = output.beginMessage(field: 2)
    output.append(contentsOf: repeatElement(7, count: length))
    output.endMessage(mark)
    try output.dropFirst().withUnsafeBytes { bytes in
      var reader = FieldReader(bytes)
      #expect(try reader.next())
      #expect(reader.tag == 0x12)
      let content = try reader.bytes()
      #expect(content.count == length && content.allSatisfy { $0 == 7 })
      #expect(reader.isAtEnd)
    }
    #expect(output[0] == 0xFF)
  }

  @Test(
    "What is stricter than protobuf is refused by name",
    arguments: [
      ([0x0A, 2, 0x61], WireError.truncated),
      ([0x0A], .truncated),
      ([0x18, 0x80], .truncated),
      ([0x18] + [UInt8](repeating: 0xFF, count: 9) + [0x02], .malformedVarint),
      ([0x18] + [UInt8](repeating: 0xFF, count: 11), .malformedVarint),
      ([0x00, 1], .malformedTag),
      ([0x07, 1], .malformedTag),
      ([0x80, 0x80, 0x80, 0x80, 0x10, 1], .malformedTag),
      ([0x3E, 1], .malformedTag),
      ([0x08, 1], .wrongWireType),
      ([0x3B, 0x3C], .groupRefused),
      ([0x3C], .groupRefused),
    ] as [([UInt8], WireError)])
  func refusals(bytes: [UInt8], error: WireError) {
    bytes.withUnsafeBytes { buffer in
      _ = #expect(throws: error) { try PutRequest(buffer) }
    }
  }

  @Test("A length near 2^63 or 2^64 is refused, not added up")
  func hugeLengths() {
    for last in [UInt8(0x00), 0x01] {
      let bytes = [0x0A] + [UInt8](repeating: 0xFF, count: 9) + [last]
      bytes.withUnsafeBytes { buffer in
        _ = #expect(throws: WireError.truncated) { try PutRequest(buffer) }
      }
    }
  }

  @Test("Key ranges are a key, a prefix, or everything from a key on")
  func ranges() {
    func contains(_ candidate: String, key: String, end: String) -> Bool {
      withBytes(key) { key in
        withBytes(end) { end in
          withBytes(candidate) { KeyRange(key: key, rangeEnd: end).contains($0) }
        }
      }
    }
    #expect(contains("a", key: "a", end: ""))
    #expect(!contains("aa", key: "a", end: ""))
    #expect(contains("aa", key: "a", end: "b"))
    #expect(!contains("b", key: "a", end: "b"))
    #expect(!contains("b", key: "b", end: "a"))
    #expect(contains("zzz", key: "a", end: "\0"))
    #expect(!contains("A", key: "a", end: "\0"))
    #expect(
      contains("longer than eight bytes", key: "longer than eight", end: "longer tham\u{7f}")
        == false)
    #expect(contains("longer than eight bytes", key: "longer than eight", end: "longer thao"))
  }
}
