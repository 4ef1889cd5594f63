import KubeAPI
import Primitives
import Testing

@Suite struct ValueTests {
  @Test func readingIsTotal() throws {
    let pod = try Value(
      json: #"{"metadata":{"name":"web","labels":null},"spec":{"containers":[{"image":"a"}]}}"#)
    #expect(pod["metadata"]["name"].string == "web")
    #expect(pod["spec"]["containers"][0]["image"].string == "a")
    #expect(pod["spec"]["containers"][7]["image"]["x"].string == nil)
    #expect(pod["metadata"]["name"]["deeper"].isNull)
    #expect(pod["metadata"].find("labels") == .null)
    #expect(pod["metadata"].find("annotations") == nil)
  }

  @Test func assigningMakesObjectsOnTheWayAndNullRemoves() {
    var value = Value.null
    value["metadata"]["labels"]["app"] = "web"
    #expect(value.jsonString == #"{"metadata":{"labels":{"app":"web"}}}"#)
    value["metadata"]["labels"]["app"] = nil
    #expect(value.jsonString == #"{"metadata":{"labels":{}}}"#)
    value["missing"]["deep"] = nil
    #expect(!value.has("missing"))
    value.set("explicit", to: nil)
    #expect(value.jsonString == #"{"metadata":{"labels":{}},"explicit":null}"#)
    value["metadata"]["list"].append(1)
    value["metadata"]["list"][0] = 2
    #expect(value["metadata"]["list"] == [2])
  }

  @Test func equalityIgnoresOrderButNotNumberType() throws {
    #expect(try Value(json: #"{"a":1,"b":[1,{}]}"#) == Value(json: #"{"b":[1,{}],"a":1}"#))
    #expect(Value.integer(1) != Value.double(1))
    #expect(try Value(json: "[1,2]") != Value(json: "[2,1]"))
  }

  @Test(arguments: [
    (
      #"{"a": [1, -0, 1.5, 1e3, true, null, "\u00e9\ud83d\ude00\ud800"]}"#,
      #"{"a":[1,0,1.5,1000.0,true,null,"é😀\#u{FFFD}"]}"#
    ),
    ("9223372036854775807", "9223372036854775807"),
    ("-9223372036854775808", "-9223372036854775808"),
    ("9223372036854775808", "9.223372036854776e+18"),
    (#""\b\f\n\r\t\"\\\/""#, #""\b\f\n\r\t\"\\/""#),
    (#" [ ] "#, "[]"),
  ])
  func parsing(_ text: String, _ expected: String) throws {
    let value = try Value(json: text)
    #expect(value.jsonString == expected)
    #expect(try Value(json: value.json) == value)
    #expect(try Value(json: value.indentedJSON()) == value)
  }

  @Test(arguments: [
    ("", "unexpected end of JSON input", 0),
    ("{", "unexpected end of JSON input", 1),
    ("[1,]", "invalid character ']' looking for beginning of value", 3),
    (#"{"a":1,}"#, #"invalid character '}' looking for beginning of object key string"#, 7),
    ("01", "invalid character '1' after top-level value", 1),
    ("1.", "unexpected end of JSON input", 2),
    ("-x", "invalid character 'x' in numeric literal", 1),
    ("truf", "invalid character 'f' in literal true (expecting 'e')", 3),
    ("\"a\nb\"", #"invalid character '\n' in string literal"#, 2),
    (#""\x""#, "invalid character 'x' in string escape code", 2),
    (#""\u12g4""#, #"invalid character 'g' in \u hexadecimal character escape"#, 5),
    (#"{"a" 1}"#, "invalid character '1' after object key", 5),
    ("1e999", "number 1e999 out of range", 0),
  ])
  func malformedTextSaysWhatAndWhere(_ text: String, _ message: String, _ offset: Int) {
    #expect(throws: JSONError.self) { try Value(json: text) }
    do { _ = try Value(json: text) } catch let error {
      #expect(error.message == message)
      #expect(error.offset == offset)
    }
  }

  @Test func invalidUTF8IsRefused() {
    for bytes: [UInt8] in [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80]] {
      #expect(throws: JSONError.self) { try Value(json: [0x22] + bytes + [0x22]) }
      #expect(throws: JSONError.self) { try Value(json: [0x22, 0x5c, 0x6e] + bytes + [0x22]) }
    }
  }

  @Test func nestingIsBounded() throws {
    let limit = Value.Limits.nestingDepth
    let deepest = String(repeating: "[", count: limit) + String(repeating: "]", count: limit)
    #expect(try Value(json: deepest).jsonString == deepest)
    #expect(throws: JSONError.self) { try Value(json: "[" + deepest + "]") }
    #expect(throws: JSONError.self) {
      try Value(json: String(repeating: "{\"a\":", count: 1_000_000))
    }
  }

  @Test func duplicateKeysAreReportedWithTheirPath() throws {
    let text = #"{"spec":{"a":1,"c":[{"x":1},{"x":1,"x":2}],"a":2},"m":{"l":{"k":1,"k":1}}}"#
    let parsed = try Value.parse(Array(text.utf8))
    #expect(parsed.duplicates == ["spec.c[1].x", "spec.a", "m.l.k"])
    #expect(parsed.value["spec"]["a"] == 2)
    #expect(try Value.parse(Array("{}".utf8)).duplicates.isEmpty)
  }

  @Test func largeObjectsKeepOrderAndFindKeys() throws {
    var object = Value.Object()
    for number in 0..<5_000 { object.set("key\(number)", to: Value(number)) }
    #expect(object.find("key4999") == 4999)
    object.remove("key10")
    #expect(object.find("key10") == nil)
    #expect(object.find("key11") == 11)
    #expect(object.keys.last == "key4999")
    let value = Value.object(object)
    #expect(try Value(json: value.json) == value)
  }

  /// Random bytes and mutated valid texts: the parser answers or throws, and what it answers
  /// survives a round trip.
  @Test func fuzz() throws {
    let seeds = [
      #"{"apiVersion":"v1","metadata":{"name":"a","labels":{"b":"\u00e9"}},"n":[1,2.5e-3,-7]}"#,
      #"[[],{},"",null,true,false,{"a":{"b":{"c":[0]}}}]"#,
    ].map { Array($0.utf8) }
    var random = RandomSource(seed: 7)
    for round in 0..<20_000 {
      var bytes = seeds[round % 2]
      for _ in 0...Int(random.below(4)) {
        let position = Int(random.below(UInt64(bytes.count)))
        switch random.below(3) {
        case 0: bytes[position] = UInt8(random.below(256))
        case 1: bytes.remove(at: position)
        default:
          bytes.insert(
            Array(#"{}[]",:\u0e1-"#.utf8)[Int(random.below(13))], at: position)
        }
      }
      guard let value = try? Value(json: bytes) else { continue }
      #expect(try Value(json: value.json) == value)
    }
  }
}
