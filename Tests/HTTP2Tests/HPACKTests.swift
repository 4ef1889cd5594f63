import Primitives
import Testing

@testable import HTTP2

/// The examples of RFC 7541, appendix C, and what a hostile block may try.
@Suite struct HPACKTests {
  // MARK: Appendix C

  @Test("C.2: the four representations")
  func representations() throws {
    #expect(
      try decode("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572")
        == ["custom-key: custom-header"])
    #expect(try decode("040c 2f73 616d 706c 652f 7061 7468") == [":path: /sample/path"])
    #expect(
      try decode("1008 7061 7373 776f 7264 0673 6563 7265 74") == ["password: secret"])
    #expect(try decode("82") == [":method: GET"])
  }

  static let requests: [[(String, String)]] = [
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")],
    [
      (":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com"),
      ("cache-control", "no-cache"),
    ],
    [
      (":method", "GET"), (":scheme", "https"), (":path", "/index.html"),
      (":authority", "www.example.com"), ("custom-key", "custom-value"),
    ],
  ]
  static let responses: [[(String, String)]] = [
    [
      (":status", "302"), ("cache-control", "private"), ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
      ("location", "https://www.example.com"),
    ],
    [
      (":status", "307"), ("cache-control", "private"), ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
      ("location", "https://www.example.com"),
    ],
    [
      (":status", "200"), ("cache-control", "private"), ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
      ("location", "https://www.example.com"), ("content-encoding", "gzip"),
      ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
    ],
  ]

  @Test(
    "C.3 to C.6: sequences that share a table",
    arguments: [
      (
        "C.3", 4_096, requests,
        [
          "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", "8286 84be 5808 6e6f 2d63 6163 6865",
          "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ], 164
      ),
      (
        "C.4", 4_096, requests,
        [
          "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", "8286 84be 5886 a8eb 1064 9cbf",
          "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ], 164
      ),
      (
        "C.5", 256, responses,
        [
          """
          4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a \
          3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d
          """,
          "4803 3330 37c1 c0bf",
          """
          88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 \
          677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 \
          553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31
          """,
        ], 215
      ),
      (
        "C.6", 256, responses,
        [
          """
          4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e \
          919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3
          """,
          "4883 640e ffc1 c0bf",
          """
          88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 \
          821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed \
          4ee5 b106 3d50 07
          """,
        ], 215
      ),
    ])
  func sequences(
    name: String, tableSize: Int, expected: [[(String, String)]], blocks: [String], finalSize: Int
  ) throws {
    var decoder = HPACKDecoder(tableSize: tableSize, maxListSize: 65_536, maxFields: 100)
    for (block, fields) in zip(blocks, expected) {
      let bytes = hex(block)
      let decoded = try bytes.withUnsafeBytes { try decoder.decode($0) }
      #expect(lines(decoded) == fields.map { "\($0.0): \($0.1)" }, "\(name)")
    }
    #expect(decoder.table.size == finalSize)
    // Our encoder writes the same bytes, with and without Huffman codes.
    guard tableSize == 4_096 else { return }
    var encoder = HPACKEncoder(maxCachedTemplates: 8, usesHuffman: name == "C.4")
    for (block, fields) in zip(blocks, expected) {
      let sink = ByteSink()
      for field in fields { encoder.encode(HeaderField(field.0, field.1), into: sink) }
      #expect(Array(sink.bytes) == hex(block), "\(name)")
    }
  }

  // MARK: Round trips

  @Test("Huffman codes every byte and takes it back")
  func huffmanRoundTrip() {
    var random = RandomSource(seed: 7)
    for length in 0..<300 {
      let bytes = (0..<length).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      let sink = ByteSink()
      Huffman.encode(bytes, into: sink)
      #expect(sink.count == Huffman.encodedSize(bytes))
      #expect(huffmanDecode(Array(sink.bytes)) == bytes)
    }
  }

  @Test(
    "Huffman padding must be fewer than eight ones, and the end symbol must not occur",
    arguments: [
      ("f8", "&"), ("ff", nil), ("1f", "a"), ("18", nil), ("1fff", nil), ("ffffffff", nil),
      ("3fffffff", nil), ("", ""),
    ] as [(String, String?)])
  func huffmanPadding(coded: String, expected: String?) {
    #expect(huffmanDecode(hex(coded)) == expected.map { Array($0.utf8) })
  }

  @Test("What the encoder writes, the decoder reads, whatever the tables go through")
  func roundTrip() throws {
    var random = RandomSource(seed: 42)
    var encoder = HPACKEncoder(maxCachedTemplates: 4)
    var decoder = HPACKDecoder(tableSize: 4_096, maxListSize: 1 << 20, maxFields: 1_000)
    let templates = (0..<6).map { number in
      HeaderTemplate([HeaderField(":status", "200"), HeaderField("x-template", "\(number)")])
    }
    for _ in 0..<5_000 {
      if random.oneIn(50) { encoder.peerAllows(tableSize: Int(random.below(5_000))) }
      let sink = ByteSink()
      encoder.beginBlock(sink)
      var expected: [String] = []
      let template = templates[Int(random.below(6))]
      encoder.encode(template, into: sink)
      expected += template.fields.map(\.description)
      for _ in 0..<random.below(5) {
        let indexing: HeaderField.Indexing = [.indexed, .plain, .secret][Int(random.below(3))]
        let value = String(repeating: "v", count: Int(random.below(200)))
        let field = HeaderField("name-\(random.below(8))", value, indexing: indexing)
        encoder.encode(field, into: sink)
        expected.append(field.description)
      }
      let block = try decoder.decode(sink.bytes)
      #expect(lines(block) == expected)
    }
  }

  @Test("A head that comes again is not decoded again, until the table changes")
  func repeatedBlocks() throws {
    var decoder = HPACKDecoder(tableSize: 4_096, maxListSize: 65_536, maxFields: 100)
    _ = try decode(&decoder, "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d")
    let first = try decode(&decoder, "8286 84be")
    first.route = 17
    #expect(try decode(&decoder, "8286 84be").route == 17)
    #expect(lines(try decode(&decoder, "8286 84be")).last == ":authority: www.example.com")
    // A new entry moves all others: the same bytes mean something else now.
    _ = try decode(&decoder, "5808 6e6f 2d63 6163 6865")
    let after = try decode(&decoder, "8286 84be")
    #expect(lines(after).last == "cache-control: no-cache")
    #expect(after.route == -1)
  }

  // MARK: Refusals

  @Test(
    "Broken blocks are compression errors",
    arguments: [
      ("80", "index zero"), ("be", "an index beyond the table"), ("ff80 8080 8001", "a huge index"),
      ("ffff ffff ffff ffff ffff 7f", "an integer without end"), ("41", "a literal cut short"),
      ("410f 7777", "a value cut short"), ("4085 ffff ffff ff00", "a broken Huffman name"),
      ("823f e11f", "a size update after a field"), ("3fe2 1f", "a size above the one announced"),
    ])
  func refusals(block: String, reason: String) {
    #expect(throws: HTTP2Error.self, "\(reason)") { try decode(block) }
  }

  @Test("A section beyond its limits is decoded to its end but not kept")
  func headerListLimit() throws {
    var decoder = HPACKDecoder(tableSize: 4_096, maxListSize: 100, maxFields: 100)
    let block = try decode(
      &decoder, "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572 be")
    #expect(block.exceedsLimits)
    #expect(block.count == 1)
    #expect(decoder.table.count == 1)
  }

  @Test(
    "The dynamic table grows with what is in it, evicts the oldest and never loses a living byte",
    arguments: [100, 256, 1_000, 4_096])
  func dynamicTable(capacity: Int) {
    var table = HPACKTable(capacity: capacity)
    var model: [(String, String)] = []
    var random = RandomSource(seed: 3)
    for step in 0..<5_000 {
      if random.oneIn(200) { table.resize(to: Int(random.below(UInt64(capacity) + 50))) }
      let name = "n\(step)"
      // Mostly short ones, so that there are many.
      let value = String(
        repeating: "x", count: Int(random.below(random.oneIn(4) ? UInt64(capacity) / 2 : 8)))
      Array(name.utf8).withUnsafeBytes { name in
        Array(value.utf8).withUnsafeBytes { table.insert(name: name, value: $0, known: .other) }
      }
      model.insert((name, value), at: 0)
      func size(_ pair: (String, String)) -> Int { pair.0.utf8.count + pair.1.utf8.count + 32 }
      while model.reduce(0, { $0 + size($1) }) > table.maxSize { model.removeLast() }
      #expect(table.count == model.count)
      for (index, pair) in model.enumerated() {
        let text = table[index].map { entry in
          table.withBytes(of: entry) {
            (String(decoding: $0, as: UTF8.self), String(decoding: $1, as: UTF8.self))
          }
        }
        #expect(text?.0 == pair.0 && text?.1 == pair.1)
      }
    }
  }

  @Test("Any bytes are decoded or refused, never a trap", arguments: 0..<20)
  func fuzz(seed: UInt64) {
    var random = RandomSource(seed: seed)
    var decoder = HPACKDecoder(tableSize: 512, maxListSize: 4_096, maxFields: 50)
    for _ in 0..<2_000 {
      let bytes = (0..<random.below(64)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      bytes.withUnsafeBytes { bytes in
        guard let block = try? decoder.decode(bytes) else { return }
        for kind in [HeaderBlock.Kind.request, .response, .trailers] {
          _ = block.validate(as: kind)
        }
        _ = block.copyFields()
      }
    }
  }

  // MARK: -

  private func decode(_ text: String) throws -> [String] {
    var decoder = HPACKDecoder(tableSize: 4_096, maxListSize: 65_536, maxFields: 100)
    return lines(try decode(&decoder, text))
  }

  private func decode(_ decoder: inout HPACKDecoder, _ text: String) throws -> HeaderBlock {
    try hex(text).withUnsafeBytes { try decoder.decode($0) }
  }

  private func lines(_ block: HeaderBlock) -> [String] {
    block.copyFields().map { "\($0.name): \($0.value)" }
  }

  private func huffmanDecode(_ coded: [UInt8]) -> [UInt8]? {
    var target = [UInt8](repeating: 0, count: Huffman.maximumDecodedSize(coded.count))
    let count = coded.withUnsafeBytes { coded in
      target.withUnsafeMutableBytes { Huffman.decode(coded, into: $0.baseAddress!) }
    }
    return count.map { Array(target.prefix($0)) }
  }
}

/// The bytes that the hexadecimal digits spell; spaces don't count.
func hex(_ text: String) -> [UInt8] {
  let digits = text.compactMap { $0.hexDigitValue.map(UInt8.init) }
  return stride(from: 0, to: digits.count - 1, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}
