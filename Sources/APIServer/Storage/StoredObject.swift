import KubeAPI
import Primitives

/// One object as the store holds it, and as readers get it.
///
/// The stored JSON has no resourceVersion: that *is* the record's mod revision. Readers get the same
/// bytes with `"resourceVersion":"N",` spliced in behind the brace that opens `metadata`. This is done
/// once per object and shared by all readers and watchers. Parsed it would take several times the memory, so
/// whoever needs the value has it made anew.
///
/// What selectors and indexes look at is taken out when the object enters the cache, so that matching
/// a watch parses nothing.
public final class StoredObject: Sendable {
  /// The store's key, `/registry/pods/default/web`.
  let key: String
  /// Empty for what has no namespace.
  let namespace: String
  let name: String
  let uid: String
  let revision: Revision
  /// `metadata.labels`, or null.
  let labels: Value
  /// What field selectors may ask for besides name and namespace.
  let fields: [String: String]
  /// The object as clients read it, resourceVersion included.
  let json: [UInt8]

  /// Takes in a record.
  ///
  /// - Parameter fields: which fields of the object selectors may ask for.
  /// - Returns: nil where the record is not a JSON object with metadata: a damaged or foreign record.
  convenience init?(
    key: String, record: StoreRecordView, fields: (Value) -> [String: String]
  ) {
    guard let value = try? Value(json: record.value) else { return nil }
    self.init(key: key, record: record, value: value, fields: fields)
  }

  /// Takes in a record whose value is known.
  ///
  /// - Returns: nil where it has no metadata.
  init?(
    key: String, record: StoreRecordView, value: Value, fields: (Value) -> [String: String]
  ) {
    guard let offset = Self.metadataContentOffset(record.value) else { return nil }
    let metadata = value["metadata"]
    guard let name = metadata["name"].string else { return nil }
    self.key = key
    self.name = name
    namespace = metadata["namespace"].string ?? ""
    uid = metadata["uid"].string ?? ""
    revision = record.revision
    labels = metadata["labels"]
    self.fields = fields(value)
    json = Self.splice(record.value, at: offset, revision: record.revision)
  }

  /// A copy of an object at another revision: what a deletion's event carries.
  init(_ other: StoredObject, revision: Revision) {
    key = other.key
    name = other.name
    namespace = other.namespace
    uid = other.uid
    self.revision = revision
    labels = other.labels
    fields = other.fields
    var value = other.value
    value["metadata"]["resourceVersion"] = Value(String(revision.rawValue))
    json = value.json
  }

  /// The object as clients read it. O(n): parsed at each call.
  var value: Value { (try? Value(json: json)) ?? .null }

  /// Puts the resourceVersion in.
  static func splice(_ json: [UInt8], at offset: Int, revision: Revision) -> [UInt8] {
    let isEmpty = json[offset...].first { $0 != 0x20 } == UInt8(ascii: "}")
    let text = "\"resourceVersion\":\"\(revision.rawValue)\"" + (isEmpty ? "" : ",")
    var bytes: [UInt8] = []
    bytes.reserveCapacity(json.count + text.utf8.count)
    bytes.append(contentsOf: json[..<offset])
    bytes.append(contentsOf: text.utf8)
    bytes.append(contentsOf: json[offset...])
    return bytes
  }

  /// The offset behind the brace that opens the top-level member `metadata`.
  ///
  /// O(offset): our own records begin with apiVersion, kind and metadata. The bytes are known to be
  /// JSON; nil where there is no such member or it isn't an object.
  static func metadataContentOffset(_ json: [UInt8]) -> Int? {
    var depth = 0
    var index = 0
    var isKey = false
    let name = Array("metadata".utf8)
    while index < json.count {
      switch json[index] {
      case UInt8(ascii: "{"), UInt8(ascii: "["):
        depth += 1
        isKey = depth == 1
      case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
      case UInt8(ascii: ","): isKey = depth == 1
      case UInt8(ascii: ":"): isKey = false
      case UInt8(ascii: "\""):
        let start = index + 1
        index = start
        while index < json.count, json[index] != UInt8(ascii: "\"") {
          index += json[index] == UInt8(ascii: "\\") ? 2 : 1
        }
        guard isKey, index <= json.count, json[start..<index].elementsEqual(name) else { break }
        index += 1
        while index < json.count, json[index] != UInt8(ascii: "{") {
          guard [0x20, 0x0A, 0x0D, 0x09, UInt8(ascii: ":")].contains(json[index]) else {
            return nil
          }
          index += 1
        }
        return index < json.count ? index + 1 : nil
      default: break
      }
      index += 1
    }
    return nil
  }
}

/// A record's value and revision, from wherever they come.
struct StoreRecordView {
  var value: [UInt8]
  var revision: Revision
}
