/// Strategic merge patch: a merge patch that knows the types it merges.
///
/// A JSON merge patch can only replace a list as a whole. Kubernetes' own patch merges a list by
/// elements where the schema gives it a merge key: to change one container's image, the patch names
/// the container and the image and nothing else. `kubectl apply`, `edit`, `set` and `patch` send it.
///
/// Directives inside a patch say more than values can:
///
/// | directive | meaning |
/// |---|---|
/// | `$patch: replace` in an object | the object is replaced by the rest of the patch |
/// | `$patch: delete` in an object | the object is emptied; as a list element with its merge key: removed |
/// | `$patch: replace` as a list element | the list is replaced by the patch's other elements |
/// | `$deleteFromPrimitiveList/F: […]` | these values go from the list of scalars F |
/// | `$setElementOrder/F: […]` | the order of F's elements; those only the server has keep theirs, relative to their neighbours |
/// | `$retainKeys: […]` | keys of the object that aren't named here are dropped (unions) |
///
/// ```
/// original: containers: [{name: a, image: x}, {name: b, image: y}]
/// patch:    containers: [{name: b, image: z}, {name: c, image: w}], $setElementOrder/containers: [{name: b}, {name: c}]
/// result:   containers: [{name: a, image: x}, {name: b, image: z}, {name: c, image: w}]
/// ```
///
/// Source: Kubernetes documentation, "Update API Objects in Place Using kubectl patch", and the
/// design proposals on strategic merge patch; the corners were compared with kubectl itself
/// (`kubectl patch --local`).
public struct StrategicMergePatch {
  private static let directive = "$patch"
  private static let retainKeys = "$retainKeys"
  private static let deletePrefix = "$deleteFromPrimitiveList/"
  private static let orderPrefix = "$setElementOrder/"

  private let catalog: SchemaCatalog

  /// Applies `patch` to `original`, an object of type `schema`.
  ///
  /// - Throws: 400 for malformed directives, 422 for a patch that doesn't fit.
  public static func apply(
    _ patch: Value, to original: Value, schema: Schema
  ) throws(PatchError) -> Value {
    guard case .object(let patchObject) = patch else { throw .malformed("Invalid JSON document") }
    let merger = StrategicMergePatch(catalog: schema.catalog)
    let object = original.object ?? Value.Object()
    return .object(try merger.mergeObject(object, patchObject, as: .object(schema.id)))
  }

  // MARK: Objects

  private func mergeObject(
    _ original: Value.Object, _ patch: Value.Object, as type: FieldType
  ) throws(PatchError) -> Value.Object {
    if let directive = patch.find(StrategicMergePatch.directive) {
      switch directive.string {
      case "replace":
        var replacement = patch
        replacement.remove(StrategicMergePatch.directive)
        return replacement
      case "delete": return Value.Object()
      default: throw unknownDirective(directive, .object(patch))
      }
    }
    var result = original
    var patch = patch
    if let keys = patch.remove(StrategicMergePatch.retainKeys) {
      try retain(keys, in: &result, patch)
    }
    for member in patch.members where member.key.hasPrefix(StrategicMergePatch.orderPrefix) {
      try mergeOrdered(member, &result, &patch, as: type)
    }
    for member in patch.members {
      if member.key.hasPrefix(StrategicMergePatch.deletePrefix) {
        let key = String(member.key.dropFirst(StrategicMergePatch.deletePrefix.count))
        try deleteScalars(member.value, from: key, of: &result)
        continue
      }
      guard !member.value.isNull else {
        result.remove(member.key)
        continue
      }
      guard let current = result.find(member.key), !current.isNull else {
        if let value = StrategicMergePatch.withoutDirectives(member.value) {
          result.set(member.key, to: value)
        }
        continue
      }
      let merged = try merge(current, member, as: type)
      result.set(member.key, to: merged)
    }
    return result
  }

  private func merge(
    _ current: Value, _ member: Value.Object.Member, as type: FieldType
  ) throws(PatchError) -> Value {
    switch (current, member.value) {
    case (.object(let original), .object(let patch)):
      let child = try self.child(member.key, of: type)
      return .object(try mergeObject(original, patch, as: child.type))
    case (.array(let original), .array(let patch)):
      let child = try self.child(member.key, of: type)
      return .array(try mergeList(original, patch, child))
    default:
      // Of another type, or scalars: the patch wins.
      return StrategicMergePatch.withoutDirectives(member.value) ?? .null
    }
  }

  private func retain(
    _ keys: Value, in object: inout Value.Object, _ patch: Value.Object
  ) throws(PatchError) {
    guard case .array(let list) = keys else {
      throw .malformed("invalid patch format of retainKeys")
    }
    let retained = Set(list.compactMap(\.string))
    for member in patch.members
    where !member.value.isNull && !member.key.hasPrefix("$") && !retained.contains(member.key) {
      throw .malformed("invalid patch format of retainKeys")
    }
    object.removeAll { !retained.contains($0.key) }
  }

  private func deleteScalars(
    _ values: Value, from key: String, of object: inout Value.Object
  ) throws(PatchError) {
    guard case .array(let doomed) = values else {
      throw .malformed("invalid patch format of primitive list")
    }
    guard case .array(let list)? = object.find(key) else { return }
    let identities = Set(doomed.map(\.jsonString))
    object.set(key, to: .array(list.filter { !identities.contains($0.jsonString) }))
  }

  // MARK: Lists

  /// What the schema says of a member: its type, and how its list merges.
  private struct Child {
    let type: FieldType
    let mergeKey: String?
    let mergesList: Bool
    let name: String

    var element: FieldType {
      if case .array(let element) = type { element } else { .any }
    }
  }

  private func child(_ key: String, of type: FieldType) throws(PatchError) -> Child {
    switch type {
    case .object(let id):
      guard let field = catalog[id].field(key) else {
        throw .doesNotApply(
          "unable to find api field in struct \(catalog[id].goName) for the json field "
            + quoted(key))
      }
      return Child(
        type: field.type, mergeKey: field.mergeKey, mergesList: field.mergesList, name: key)
    case .map(let element): return Child(type: element, mergeKey: nil, mergesList: false, name: key)
    default: return Child(type: .any, mergeKey: nil, mergesList: false, name: key)
    }
  }

  private func mergeList(
    _ original: [Value], _ patch: [Value], _ child: Child
  ) throws(PatchError) -> [Value] {
    guard child.mergesList else { return patch }
    if original.isEmpty && patch.isEmpty { return original }
    guard isListOfObjects(original, patch) else {
      let merged = distinct(original + patch)
      return ordered(merged, by: patch, server: original, key: nil)
    }
    guard let key = child.mergeKey else {
      throw .doesNotApply("cannot merge lists without merge key for \(child.name)")
    }
    let (base, additions) = try resolveDirectives(original, patch, key)
    var merged = base
    var places = StrategicMergePatch.places(of: merged, key)
    for addition in additions {
      let identity = try mergeValue(addition, key)
      if let index = places[identity], case .object(let element) = merged[index],
        case .object(let change) = addition
      {
        merged[index] = .object(try mergeObject(element, change, as: child.element))
      } else if let element = StrategicMergePatch.withoutDirectives(addition) {
        places[identity] = merged.count
        merged.append(element)
      }
    }
    return ordered(merged, by: additions, server: base, key: key)
  }

  /// Takes the elements that are directives out of a patch and carries them out.
  private func resolveDirectives(
    _ original: [Value], _ patch: [Value], _ key: String
  ) throws(PatchError) -> (base: [Value], additions: [Value]) {
    var removed: Set<String> = []
    var additions: [Value] = []
    var replaces = false
    for element in patch {
      guard let directive = element.find(StrategicMergePatch.directive) else {
        additions.append(element)
        continue
      }
      switch directive.string {
      case "delete": removed.insert(try mergeValue(element, key))
      case "replace": replaces = true
      case "merge":
        throw .doesNotApply("merging lists cannot yet be specified in the patch")
      default: throw unknownDirective(directive, element)
      }
    }
    if replaces { return (additions, []) }
    let base = original.filter { element in
      StrategicMergePatch.identity(element, key).map { !removed.contains($0) } ?? true
    }
    return (base, additions)
  }

  private func mergeOrdered(
    _ order: Value.Object.Member, _ object: inout Value.Object, _ patch: inout Value.Object,
    as type: FieldType
  ) throws(PatchError) {
    patch.remove(order.key)
    // A list that is removed as a whole has no order.
    let key = String(order.key.dropFirst(StrategicMergePatch.orderPrefix.count))
    if let value = patch.find(key), value.isNull { return }
    guard case .array(let wanted) = order.value else {
      throw .malformed("invalid patch format of setElementOrder list")
    }
    let child = try self.child(key, of: type)
    let originalList = try list(object.find(key))
    let patchList = try list(patch.find(key))
    try check(patchList ?? [], isWithin: wanted, child.mergeKey)
    let merged: [Value]
    switch (originalList, patchList) {
    case (nil, nil): return
    case (let original?, nil): merged = original
    case (nil, let additions?):
      merged = StrategicMergePatch.withoutDirectives(.array(additions))?.array ?? []
    case (let original?, let additions?): merged = try mergeList(original, additions, child)
    }
    patch.remove(key)
    object.set(
      key,
      to: .array(ordered(merged, by: wanted, server: originalList ?? [], key: child.mergeKey)))
  }

  private func list(_ value: Value?) throws(PatchError) -> [Value]? {
    guard let value, !value.isNull else { return nil }
    guard case .array(let elements) = value else {
      throw .malformed("invalid patch format of setElementOrder list")
    }
    return elements
  }

  /// The elements of a patch's list must come in its order list, in the same order.
  private func check(
    _ patch: [Value], isWithin order: [Value], _ key: String?
  ) throws(PatchError) {
    var rest = order[...]
    for element in patch where element.find(StrategicMergePatch.directive) == nil {
      let identity = StrategicMergePatch.identity(element, key)
      guard identity != nil,
        let index = rest.firstIndex(where: { StrategicMergePatch.identity($0, key) == identity })
      else {
        throw .malformed(
          "The order in patch list:\n\(Value.array(patch).goText)\n doesn't match "
            + "\(StrategicMergePatch.orderPrefix) list:\n\(Value.array(order).goText)\n")
      }
      rest = rest[(index + 1)...]
    }
  }

  // MARK: Order

  /// Orders a merged list: elements that `order` names come in its order, the others in the server's,
  /// and an element of the server's stays in front of one that it stood in front of.
  private func ordered(
    _ merged: [Value], by order: [Value], server: [Value], key: String?
  ) -> [Value] {
    let orderPlaces = StrategicMergePatch.places(of: order, key)
    let serverPlaces = StrategicMergePatch.places(of: server, key)
    var named: [(place: Int, element: Value)] = []
    var others: [(place: Int, element: Value)] = []
    for element in merged {
      let identity = StrategicMergePatch.identity(element, key)
      if let place = identity.flatMap({ orderPlaces[$0] }) {
        named.append((place, element))
      } else {
        others.append((identity.flatMap { serverPlaces[$0] } ?? .max, element))
      }
    }
    // Sorting is stable.
    named.sort { $0.place < $1.place }
    others.sort { $0.place < $1.place }
    var result: [Value] = []
    var left = others[...]
    var right = named[...]
    while let l = left.first, let r = right.first {
      let identity = StrategicMergePatch.identity(r.element, key)
      if l.place != .max, let place = identity.flatMap({ serverPlaces[$0] }), l.place < place {
        result.append(l.element)
        left.removeFirst()
      } else {
        result.append(r.element)
        right.removeFirst()
      }
    }
    return result + left.map(\.element) + right.map(\.element)
  }

  /// What an element is found by: its merge key's value, or in a list of scalars itself.
  private static func identity(_ element: Value, _ key: String?) -> String? {
    guard let key else { return element.jsonString }
    return element.find(key)?.jsonString
  }

  /// The first place of each identity.
  private static func places(of list: [Value], _ key: String?) -> [String: Int] {
    var places: [String: Int] = [:]
    for (index, element) in list.enumerated() {
      if let identity = identity(element, key), places[identity] == nil {
        places[identity] = index
      }
    }
    return places
  }

  private func isListOfObjects(_ a: [Value], _ b: [Value]) -> Bool {
    guard let first = a.first ?? b.first else { return false }
    if case .object = first { return true } else { return false }
  }

  private func distinct(_ list: [Value]) -> [Value] {
    var seen: Set<String> = []
    return list.filter { seen.insert($0.jsonString).inserted }
  }

  private func mergeValue(_ element: Value, _ key: String) throws(PatchError) -> String {
    guard let identity = element.find(key), !identity.isNull else {
      throw .doesNotApply("map: \(element.goText) does not contain declared merge key: \(key)")
    }
    return identity.jsonString
  }

  private func unknownDirective(_ directive: Value, _ patch: Value) -> PatchError {
    .doesNotApply(
      "unknown patch type: \(directive.goText) in map: \(patch.goText)")
  }

  // MARK: What is new

  /// A part of the patch that has nothing to merge with, without nulls and directives; nil if it is
  /// itself marked for deletion.
  private static func withoutDirectives(_ value: Value) -> Value? {
    switch value {
    case .object(let object):
      if object.find(directive) == "delete" { return nil }
      var result = Value.Object()
      for member in object.members {
        if member.value.isNull || member.key == directive || member.key == retainKeys
          || member.key.hasPrefix(deletePrefix) || member.key.hasPrefix(orderPrefix)
        {
          continue
        }
        if let kept = withoutDirectives(member.value) { result.appendNew(member.key, kept) }
      }
      return .object(result)
    case .array(let elements):
      return .array(elements.compactMap(withoutDirectives))
    default: return value
    }
  }
}
