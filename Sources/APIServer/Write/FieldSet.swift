import KubeAPI

/// A set of an object's fields, as `managedFields` tells who set what.
///
/// A tree whose edges are path elements in their published form: `f:spec` for a field, `k:{"name":"c"}`
/// for an element of a list that is identified by keys, `v:"x"` for an element of a set. What the
/// schema calls atomic is one leaf. Source: Kubernetes documentation, "Server-Side Apply", and the
/// schema's list types.
struct FieldSet: Sendable, Equatable {
  /// The path that ends here belongs to the set.
  var isMember = false
  var children: [String: FieldSet] = [:]

  var isEmpty: Bool { !isMember && children.isEmpty }

  static let leaf = FieldSet(isMember: true)

  // MARK: Making

  /// All fields of an object, identity and bookkeeping left out.
  static func fields(of object: Value, schema: Schema) -> FieldSet {
    changes(from: .null, to: object, schema: schema)
  }

  /// The fields that are new or different in `new`.
  static func changes(from old: Value, to new: Value, schema: Schema) -> FieldSet {
    var set = walk(old, new, .object(schema.id), isAtomic: false, nil, schema.catalog)
    for name in ["f:apiVersion", "f:kind"] { set.children[name] = nil }
    if var metadata = set.children["f:metadata"] {
      for name in [
        "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp",
        "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields",
      ] {
        metadata.children["f:\(name)"] = nil
      }
      metadata.isMember = false
      set.children["f:metadata"] = metadata.isEmpty ? nil : metadata
    }
    set.isMember = false
    return set
  }

  private static func walk(
    _ old: Value, _ new: Value, _ type: FieldType, isAtomic: Bool, _ field: FieldSchema?,
    _ catalog: SchemaCatalog
  ) -> FieldSet {
    if new == old { return FieldSet() }
    switch (new, type) {
    case (.object(let object), .object(let id)) where !isAtomic && !catalog[id].isAtomic:
      let schema = catalog[id]
      var set = FieldSet()
      for member in object.members {
        guard let field = schema.field(member.key) else { continue }
        let child = walk(
          old[member.key], member.value, field.type, isAtomic: field.isAtomic, field, catalog)
        if !child.isEmpty { set.children["f:\(member.key)"] = child }
      }
      // A struct without fields is set by being there.
      if object.isEmpty { set.isMember = true }
      return set
    case (.object(let object), .map(let element)) where !isAtomic:
      var set = FieldSet(isMember: old.isNull)
      for member in object.members {
        let child = walk(
          old[member.key], member.value, element, isAtomic: false, nil, catalog)
        if !child.isEmpty { set.children["f:\(member.key)"] = child }
      }
      return set
    case (.array(let elements), .array(let element)):
      switch field?.listType ?? .atomic {
      case .atomic: return .leaf
      case .set:
        let before = old.elements
        var set = FieldSet(isMember: old.isNull)
        for item in elements where !before.contains(item) {
          set.children["v:\(item.jsonString)"] = .leaf
        }
        return set
      case .map:
        let keys = field?.mapKeys ?? []
        var set = FieldSet(isMember: old.isNull)
        for item in elements {
          let key = elementKey(item, keys)
          let before = old.elements.first { elementKey($0, keys) == key } ?? .null
          var child = walk(before, item, element, isAtomic: false, nil, catalog)
          if before.isNull { child.isMember = true }
          if !child.isEmpty { set.children[key] = child }
        }
        return set
      }
    default:
      return .leaf
    }
  }

  private static func elementKey(_ item: Value, _ keys: [String]) -> String {
    var object = Value.Object()
    for key in keys.sorted() { object.set(key, to: item[key]) }
    return "k:" + Value.object(object).jsonString
  }

  // MARK: Combining

  mutating func formUnion(_ other: FieldSet) {
    if other.isMember { isMember = true }
    for (key, child) in other.children { children[key, default: FieldSet()].formUnion(child) }
  }

  /// Takes away the paths that belong to `other`; a leaf of it takes everything below.
  mutating func subtract(_ other: FieldSet) {
    if other.isMember { isMember = false }
    for (key, child) in other.children {
      guard var own = children[key] else { continue }
      own.subtract(child)
      if child.isMember && child.children.isEmpty { own = FieldSet() }
      children[key] = own.isEmpty ? nil : own
    }
  }

  // MARK: FieldsV1

  /// The published form: an object whose keys are path elements.
  var value: Value {
    var object = Value.Object()
    if isMember && !children.isEmpty { object.set(".", to: [:]) }
    for key in children.keys.sorted() {
      if let child = children[key] { object.set(key, to: child.value) }
    }
    return .object(object)
  }

  /// Reads the published form; what isn't one is an empty set.
  init(_ value: Value) {
    for member in value.members {
      if member.key == "." {
        isMember = true
      } else {
        children[member.key] = FieldSet(member.value)
      }
    }
    if children.isEmpty { isMember = true }
  }

  init(isMember: Bool = false) { self.isMember = isMember }
}
