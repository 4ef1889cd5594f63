/// An object as bytes: compact JSON without `metadata.resourceVersion`, and the place where that
/// belongs.
///
/// An object's resourceVersion is the revision at which the store last changed its record, which is
/// known only after the write. So it isn't stored; readers get it spliced in behind the opening
/// brace of `metadata`, without parsing or encoding the object again.
///
/// ```
/// stored:   {"kind":"Pod","metadata":{"name":"web"},…}       spliceOffset: 26
/// revision 7: {"kind":"Pod","metadata":{"resourceVersion":"7","name":"web"},…}
/// ```
public struct StoredObject: Sendable, Equatable {
  public let json: [UInt8]
  /// Behind the opening brace of `metadata`.
  public let spliceOffset: Int
  private let hasOtherMetadata: Bool

  /// Encodes `object`, leaving its resourceVersion out. Metadata is added if there is none.
  public init(_ object: Value) {
    var object = object
    object["metadata"].remove("resourceVersion")
    if object["metadata"].object == nil { object["metadata"] = [:] }
    var bytes: [UInt8] = [UInt8(ascii: "{")]
    var offset = 1
    for (index, member) in object.members.enumerated() {
      if index > 0 { bytes.append(UInt8(ascii: ",")) }
      Value.encode(string: member.key, into: &bytes)
      bytes.append(UInt8(ascii: ":"))
      if member.key == "metadata" { offset = bytes.count + 1 }
      member.value.encode(into: &bytes)
    }
    bytes.append(UInt8(ascii: "}"))
    json = bytes
    spliceOffset = offset
    hasOtherMetadata = !object["metadata"].isEmpty
  }

  /// Finds the place in an object that was stored before.
  ///
  /// Takes one pass over the bytes in front of `metadata`; nil if there is no such member or it is
  /// no object. Whether the bytes are valid JSON otherwise isn't checked.
  public init?(json: [UInt8]) {
    guard let offset = StoredObject.metadataOffset(in: json) else { return nil }
    var next = offset
    while next < json.count, StoredObject.isSpace(json[next]) { next += 1 }
    guard next < json.count else { return nil }
    self.json = json
    spliceOffset = offset
    hasOtherMetadata = json[next] != UInt8(ascii: "}")
  }

  /// Appends the object with its resourceVersion to `bytes`.
  public func encode(resourceVersion: UInt64, into bytes: inout [UInt8]) {
    bytes.reserveCapacity(bytes.count + json.count + 42)
    bytes.append(contentsOf: json[..<spliceOffset])
    bytes.append(contentsOf: #""resourceVersion":""#.utf8)
    bytes.append(contentsOf: String(resourceVersion).utf8)
    bytes.append(UInt8(ascii: "\""))
    if hasOtherMetadata { bytes.append(UInt8(ascii: ",")) }
    bytes.append(contentsOf: json[spliceOffset...])
  }

  public func encoded(resourceVersion: UInt64) -> [UInt8] {
    var bytes: [UInt8] = []
    encode(resourceVersion: resourceVersion, into: &bytes)
    return bytes
  }

  /// The object as a value, with its resourceVersion.
  public func value(resourceVersion: UInt64) throws(JSONError) -> Value {
    var value = try Value(json: json)
    value["metadata"]["resourceVersion"] = .string(String(resourceVersion))
    return value
  }

  // MARK: Scanning

  private static func isSpace(_ byte: UInt8) -> Bool {
    byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09
  }

  /// Behind the brace of the outer object's member `metadata`.
  private static func metadataOffset(in json: [UInt8]) -> Int? {
    let key = Array("metadata".utf8)
    var depth = 0
    var position = 0
    // The last string of the outer object, if only a colon and space came since.
    var isAfterKey = false
    var hasColon = false
    while position < json.count {
      let byte = json[position]
      switch byte {
      case UInt8(ascii: "\""):
        let start = position + 1
        position = start
        while position < json.count, json[position] != UInt8(ascii: "\"") {
          position += json[position] == UInt8(ascii: "\\") ? 2 : 1
        }
        guard position < json.count else { return nil }
        isAfterKey = depth == 1 && json[start..<position].elementsEqual(key)
        hasColon = false
      case UInt8(ascii: ":"): hasColon = isAfterKey
      case UInt8(ascii: "{"):
        if isAfterKey, hasColon { return position + 1 }
        depth += 1
        isAfterKey = false
      case UInt8(ascii: "["):
        depth += 1
        isAfterKey = false
      case UInt8(ascii: "}"), UInt8(ascii: "]"):
        depth -= 1
        isAfterKey = false
        if depth <= 0 { return nil }
      case _ where isSpace(byte): break
      default: isAfterKey = false
      }
      position += 1
    }
    return nil
  }
}
