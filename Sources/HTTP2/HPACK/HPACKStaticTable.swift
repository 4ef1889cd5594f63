/// The 61 fields that every HPACK table starts with. Source: RFC 7541, appendix A.
enum HPACKStaticTable {
  struct Entry: Sendable {
    var name: StaticString
    var value: StaticString
    var known: HeaderName
  }

  static let count = 61

  /// Entry `index` of the specification is at `index - 1`.
  static let entries: [Entry] = pairs.map { name, value in
    let known = HeaderName.recognise(
      UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount))
    return Entry(name: name, value: value, known: known)
  }

  private static let pairs: [(StaticString, StaticString)] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
  ]

  /// The index of the entry equal to the field, and that of the first with its name; 0 where none.
  static func find(name: [UInt8], value: [UInt8]) -> (field: Int, name: Int) {
    var nameIndex = 0
    return name.withUnsafeBytes { name in
      value.withUnsafeBytes { value in
        for (offset, entry) in entries.enumerated() where equal(name, entry.name) {
          if nameIndex == 0 { nameIndex = offset + 1 }
          if equal(value, entry.value) { return (offset + 1, nameIndex) }
        }
        return (0, nameIndex)
      }
    }
  }
}
