import KubeAPI
import Testing

@Suite struct QuantityTests {
  /// The canonical form: no fraction, the largest suffix that leaves the number whole.
  @Test(arguments: [
    ("0", "0"), ("-0", "0"), ("1", "1"), ("+1", "1"), ("1000m", "1"), ("1500m", "1500m"),
    ("0.5", "500m"), (".5", "500m"), ("5.", "5"), ("100m", "100m"), ("0.1", "100m"),
    ("1000", "1k"), ("100000", "100k"), ("1e3", "1e3"), ("1E3", "1e3"), ("12e2", "1200"),
    ("1Ki", "1Ki"), ("1024Ki", "1Mi"), ("1024", "1024"), ("0.5Gi", "512Mi"), ("0.5Ki", "512"),
    ("1.5Gi", "1536Mi"), ("1023Ki", "1023Ki"), ("-1Mi", "-1Mi"), ("1n", "1n"), ("0.1n", "1n"),
    ("1.0000000001", "1000000001n"), ("5E", "5E"), ("8Ei", "9223372036854775807"),
    ("99999999999999999999", "9223372036854775807"), ("1e1000000", "9223372036854775807"),
    ("1e-1000000", "1e-9"), ("-1e30", "-9223372036854775807"), ("16384Ki", "16Mi"),
    ("0.1Ki", "102400m"), ("1u", "1u"), ("1000u", "1m"),
  ])
  func canonicalForm(_ text: String, _ expected: String) throws {
    let quantity = try Quantity(text)
    #expect(quantity.description == expected)
    #expect(try Quantity(quantity.description) == quantity)
  }

  @Test(arguments: [
    "", "-", ".", "lots", "1x", "1ki", "1KI", "1 ", " 1", "1e", "1e+", "--1", "1.2.3", "1mm",
    "0x10", "1_0", "é", "1e99999999999999999999",
  ])
  func malformed(_ text: String) {
    #expect(throws: QuantityError.self) { try Quantity(text) }
  }

  @Test func arithmeticIsExact() throws {
    var sum = Quantity.zero
    for _ in 0..<10 { sum += try Quantity("100m") }
    #expect(sum == Quantity(1))
    #expect(sum.description == "1")
    #expect(try Quantity("1Gi") - Quantity("1Mi") == Quantity("1023Mi"))
    #expect(try Quantity("1500m") > Quantity("1"))
    #expect(try Quantity("1500m").value == 2)
    #expect(try Quantity("-1500m").value == -2)
    #expect(try Quantity("1.0001").milliValue == 1001)
    let most = Quantity(.max)
    #expect(most + most == most)
  }

  @Test func timestamps() throws {
    for (text, expected) in [
      ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
      ("2024-02-29T23:59:59+01:30", "2024-02-29T22:29:59Z"),
      ("2023-12-31T23:59:59.999999999-00:01", "2024-01-01T00:00:59Z"),
      ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
      ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
    ] { #expect(try Timestamp(text).description == expected) }
    #expect(
      try Timestamp("2024-01-02T03:04:05.6Z").microDescription == "2024-01-02T03:04:05.600000Z")
    #expect(
      throws: TimestampError(
        message: "parsing time \"2023-02-29T00:00:00Z\": day out of range"
      )
    ) { try Timestamp("2023-02-29T00:00:00Z") }
    for text in ["", "2024", "2024-13-01T00:00:00Z", "2024-01-01T00:00:00", "2024-01-01T24:00:00Z"]
    {
      #expect(throws: TimestampError.self) { try Timestamp(text) }
    }
  }

  /// Every day of four centuries there and back.
  @Test func daysRoundTrip() throws {
    var time = Timestamp(secondsSinceEpoch: -86_400 * 73_000)
    for _ in 0..<146_097 {
      #expect(try Timestamp(time.description) == time)
      time = time.adding(.seconds(86_400))
    }
  }

  @Test func base64() throws {
    for length in 0..<40 {
      let bytes = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ 200) }
      #expect(Base64.decode(Base64.encode(bytes)) == bytes)
    }
    #expect(Base64.decode("aGk=\n") == Array("hi".utf8))
    for text in ["a", "aG", "aGk", "aGk==", "=", "aG=k", "aGk=aGk=", "a b="] {
      #expect(Base64.decode(text) == nil)
    }
  }
}
