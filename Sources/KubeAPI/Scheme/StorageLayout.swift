/// Where the resources of a scheme lie in the store: which one a key belongs to.
///
/// Several resources may share a place (both groups' Events do). A key is looked up by its first segments, so
/// finding its place takes the same time however many resources there are.
public struct StorageLayout: Sendable {
  /// What lies below a prefix.
  private struct Place: Sendable {
    var prefix: String
    /// The resources with selectable fields, each with the form in which it serves what is stored.
    var selecting: [ResourceDefinition] = []
  }

  private var places: [String: Place] = [:]
  /// The most segments behind `/registry/` that a prefix has.
  private var depth = 1

  private static let root = "/registry/"

  public init() {}

  /// Places without anything selectable; each prefix begins with `/registry/` and ends in a slash.
  public init(prefixes: [String]) {
    for prefix in prefixes { places[prefix] = Place(prefix: prefix) }
    depth = prefixes.map(Self.segments).max() ?? 1
  }

  private static func segments(_ prefix: String) -> Int {
    prefix.utf8.dropFirst(root.utf8.count).count { $0 == UInt8(ascii: "/") }
  }

  mutating func add(_ resource: ResourceDefinition) {
    guard resource.isStored else { return }
    let prefix = resource.storageKeyPrefix()
    var place = places[prefix] ?? Place(prefix: prefix)
    if !resource.selectableFields.isEmpty {
      place.selecting.removeAll { $0.kind == resource.kind }
      place.selecting.append(resource)
    }
    places[prefix] = place
    depth = max(depth, Self.segments(prefix))
  }

  /// Every prefix, in no order.
  public var prefixes: [String] { Array(places.keys) }

  /// The prefix under which a key lies, the longest if there are several; nil for foreign keys.
  public func prefix(of key: String) -> String? {
    var found: String?
    var slashes = 0
    var index = key.utf8.startIndex
    let start = Self.root.utf8.count
    var offset = 0
    while index < key.utf8.endIndex, slashes < depth {
      if offset >= start, key.utf8[index] == UInt8(ascii: "/") {
        slashes += 1
        let candidate = String(key[...index])
        if let place = places[candidate] { found = place.prefix }
      }
      index = key.utf8.index(after: index)
      offset += 1
    }
    return found
  }

  /// What field selectors may ask of an object stored below a prefix, over all resources that share it.
  /// Empty fields are left out.
  public func fields(of value: Value, prefix: String) -> [String: String] {
    var fields: [String: String] = [:]
    for resource in places[prefix]?.selecting ?? [] {
      let served = resource.storage.served(value)
      for field in resource.selectableFields {
        let text = field.value(in: served)
        if !text.isEmpty { fields[field.name] = text }
      }
    }
    return fields
  }
}
