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
  var children = Children()

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
    set.removeIdentity()
    return set
  }

  /// The fields of `old` that are not in `new`, in whatever form.
  static func removals(from old: Value, to new: Value, schema: Schema) -> FieldSet {
    var set = walkRemoved(old, new, .object(schema.id), isAtomic: false, nil, schema.catalog)
    set.removeIdentity()
    return set
  }

  /// Takes out what belongs to no manager: identity and bookkeeping.
  private mutating func removeIdentity() {
    for name in ["f:apiVersion", "f:kind"] { children[name] = nil }
    if var metadata = children["f:metadata"] {
      for name in [
        "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp",
        "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields",
      ] {
        metadata.children["f:\(name)"] = nil
      }
      metadata.isMember = false
      children["f:metadata"] = metadata.isEmpty ? nil : metadata
    }
    isMember = false
  }

  private static func walkRemoved(
    _ old: Value, _ new: Value, _ type: FieldType, isAtomic: Bool, _ field: FieldSchema?,
    _ catalog: SchemaCatalog
  ) -> FieldSet {
    if new == old { return FieldSet() }
    // What is gone is gone with all that was below it.
    if new.isNull { return walk(.null, old, type, isAtomic: isAtomic, field, catalog) }
    var set = FieldSet()
    switch (old, type) {
    case (.object(let object), .object(let id)) where !isAtomic && !catalog[id].isAtomic:
      for member in object.members {
        guard let field = catalog[id].field(member.key) else { continue }
        let child = walkRemoved(
          member.value, new[member.key], field.type, isAtomic: field.isAtomic, field, catalog)
        if !child.isEmpty { set.children["f:\(member.key)"] = child }
      }
    case (.object(let object), .map(let element)) where !isAtomic:
      for member in object.members {
        let child = walkRemoved(
          member.value, new[member.key], element, isAtomic: false, nil, catalog)
        if !child.isEmpty { set.children["f:\(member.key)"] = child }
      }
    case (.array(let elements), .array(let element)):
      switch field?.listType ?? .atomic {
      case .atomic: break
      case .set:
        let left = new.elements
        for item in elements where !left.contains(item) {
          set.children["v:\(item.jsonString)"] = .leaf
        }
      case .map:
        let keys = field?.mapKeys ?? []
        for item in elements {
          let key = elementKey(item, keys, element, catalog)
          let after = new.elements.first { elementKey($0, keys, element, catalog) == key }
          var child = walkRemoved(item, after ?? .null, element, isAtomic: false, nil, catalog)
          if after == nil { child.isMember = true }
          if !child.isEmpty { set.children[key] = child }
        }
      }
    default: break
    }
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
          let key = elementKey(item, keys, element, catalog)
          let before = old.elements.first { elementKey($0, keys, element, catalog) == key } ?? .null
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

  /// An element's path element. A key that is left out has its default, as it will have once stored.
  static func elementKey(
    _ item: Value, _ keys: [String], _ type: FieldType, _ catalog: SchemaCatalog
  ) -> String {
    var object = Value.Object()
    for key in keys.sorted() {
      var value = item[key]
      if value.isNull, case .object(let id) = type, catalog === SchemaCatalog.kubernetes {
        value = SchemaDefaults.kubernetes.constant(key, of: id) ?? .null
      }
      object.set(key, to: value)
    }
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
    for (key, child) in children { object.set(key, to: child.value) }
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

  /// The path elements below a node, in order.
  ///
  /// Sets are made and taken apart at every write, and a node has few children: a sorted array costs a fraction of a
  /// dictionary.
  struct Children: Sendable, Equatable, Sequence {
    private struct Entry: Sendable, Equatable {
      let key: String
      var set: FieldSet
    }
    private var entries: [Entry] = []

    var isEmpty: Bool { entries.isEmpty }
    var keys: [String] { entries.map(\.key) }

    private func place(of key: String) -> (index: Int, isFound: Bool) {
      var low = 0
      var high = entries.count
      while low < high {
        let middle = (low + high) / 2
        if entries[middle].key < key { low = middle + 1 } else { high = middle }
      }
      return (low, low < entries.count && entries[low].key == key)
    }

    /// Assigning nil removes.
    subscript(key: String) -> FieldSet? {
      get {
        let place = place(of: key)
        return place.isFound ? entries[place.index].set : nil
      }
      set {
        let place = place(of: key)
        switch (newValue, place.isFound) {
        case (let set?, true): entries[place.index].set = set
        case (let set?, false): entries.insert(Entry(key: key, set: set), at: place.index)
        case (nil, true): entries.remove(at: place.index)
        case (nil, false): break
        }
      }
    }

    subscript(key: String, default standard: @autoclosure () -> FieldSet) -> FieldSet {
      get { self[key] ?? standard() }
      _modify {
        let place = place(of: key)
        if !place.isFound { entries.insert(Entry(key: key, set: standard()), at: place.index) }
        yield &entries[place.index].set
      }
    }

    func makeIterator() -> some IteratorProtocol<(key: String, set: FieldSet)> {
      entries.lazy.map { (key: $0.key, set: $0.set) }.makeIterator()
    }
  }
}
