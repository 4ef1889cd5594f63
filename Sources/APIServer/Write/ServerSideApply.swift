import KubeAPI

/// Server-side apply: merges what a manager wants into an object and keeps account of who owns which field.
///
/// # How
///
/// The configuration that a manager applies names the fields that it has an opinion about; these it owns. Applying
///
/// 1. merges them into the object, lists by their keys,
/// 2. removes what the manager applied the last time and no longer does, unless somebody else owns it too,
/// 3. refuses to change what others own (409, naming each field), unless it is forced: then they lose it.
///
/// # Worked example
///
///     kubectl applies  spec.replicas 3, containers[name=web].image a      owns both
///     hpa updates      spec.replicas 5                                    takes replicas
///     kubectl applies  spec.replicas 3, containers[name=web].image b      409: conflict with "hpa": .spec.replicas
///     kubectl applies  containers[name=web].image b                       image b, replicas stay 5
///
/// Source: Kubernetes, "Server-Side Apply".
struct ServerSideApply {
  let schema: Schema
  let apiVersion: String
  let manager: String
  let subresource: String
  let isForced: Bool
  let now: Timestamp

  /// The fields of a configuration.
  private func owned(_ configuration: Value) -> FieldSet {
    var set = FieldSet.fields(of: configuration, schema: schema)
    set.leaveContainers()
    return set
  }

  private func isOwn(_ entry: Value) -> Bool {
    entry["manager"].string == manager && entry["operation"] == "Apply"
      && (entry["subresource"].string ?? "") == subresource
  }

  /// A new object out of a configuration.
  func make(_ configuration: Value) -> Value {
    var object = configuration
    object["metadata"]["managedFields"] = [entry(owned(configuration))]
    return object
  }

  /// Merges a configuration into an object.
  ///
  /// - Returns: the object, with its new `managedFields`.
  /// - Throws: 409 where others own what would be changed.
  func apply(_ configuration: Value, to live: Value) throws(StatusError) -> Value {
    let wanted = owned(configuration)
    var entries = live["metadata"]["managedFields"].elements
    let last = entries.first(where: isOwn).map { FieldSet($0["fieldsV1"]) } ?? FieldSet()
    var others = FieldSet()
    for entry in entries where !isOwn(entry) { others.formUnion(FieldSet(entry["fieldsV1"])) }

    var merged = merge(configuration, into: live, .object(schema.id), nil)
    var given = last
    given.subtractPaths(of: wanted)
    var kept = others
    kept.formUnion(wanted)
    merged = prune(merged, given, kept, .object(schema.id), nil)

    if manager == Self.kubectl, !(lastApplied(live)?.isNull ?? true) {
      // The next client-side apply begins with what was applied here.
      merged["metadata"]["annotations"][Self.lastApplied] = Value(configuration.jsonString + "\n")
    }
    let changed = FieldSet.changes(from: live, to: merged, schema: schema)
    try resolve(&entries, changed, excused: excuses(live))
    // What is gone belongs to nobody.
    let removed = FieldSet.removals(from: live, to: merged, schema: schema)
    for index in entries.indices where !isOwn(entries[index]) && !removed.isEmpty {
      var set = FieldSet(entries[index]["fieldsV1"])
      let before = set
      set.subtract(removed)
      if set != before { entries[index]["fieldsV1"] = set.value }
    }
    entries.removeAll { $0["fieldsV1"].isEmpty && !isOwn($0) }
    var own = entry(wanted)
    if let index = entries.firstIndex(where: isOwn) {
      if entries[index]["fieldsV1"] == own["fieldsV1"], changed.isEmpty, removed.isEmpty {
        own["time"] = entries[index]["time"]
      }
      entries[index] = own
    } else {
      entries.append(own)
    }
    merged["metadata"]["managedFields"] = .array(entries)
    return merged
  }

  private func entry(_ set: FieldSet) -> Value {
    var entry: Value = [
      "manager": Value(manager), "operation": "Apply", "apiVersion": Value(apiVersion),
      "time": Value(now.description), "fieldsType": "FieldsV1", "fieldsV1": set.value,
    ]
    if !subresource.isEmpty { entry["subresource"] = Value(subresource) }
    return entry
  }

  // MARK: Conflicts

  /// Takes changed fields from their owners, or complains of them.
  private func resolve(
    _ entries: inout [Value], _ changed: FieldSet, excused: FieldSet
  ) throws(StatusError) {
    var conflicts: [(manager: String, path: String)] = []
    for index in entries.indices where !isOwn(entries[index]) {
      var set = FieldSet(entries[index]["fieldsV1"])
      var taken = set.intersection(changed)
      if taken.isEmpty { continue }
      if !isForced {
        taken.subtractPaths(of: excused)
        let name = Self.name(entries[index])
        conflicts += taken.leafPaths.map { (name, $0) }
      }
      set.subtract(changed)
      entries[index]["fieldsV1"] = set.value
    }
    guard conflicts.isEmpty else { throw Self.conflict(conflicts) }
  }

  // MARK: From client-side apply

  private static let kubectl = "kubectl"
  private static let lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

  /// What kubectl last applied from the client's side.
  private func lastApplied(_ live: Value) -> Value? {
    live["metadata"]["annotations"][Self.lastApplied].string.flatMap { try? Value(json: $0) }
  }

  /// Fields that kubectl may change whoever owns them: what it applied from the client's side was its own.
  /// Source: Kubernetes, "Server-Side Apply", upgrading from client-side apply.
  private func excuses(_ live: Value) -> FieldSet {
    guard manager == Self.kubectl, let applied = lastApplied(live) else { return FieldSet() }
    var set = FieldSet.fields(of: applied, schema: schema)
    set.children["f:metadata", default: FieldSet()].children["f:annotations", default: FieldSet()]
      .children["f:\(Self.lastApplied)"] = .leaf
    return set
  }

  /// A manager as messages name it.
  private static func name(_ entry: Value) -> String {
    var text = quoted(entry["manager"].string ?? "")
    if let subresource = entry["subresource"].string, !subresource.isEmpty {
      text += " with subresource \(quoted(subresource))"
    }
    guard entry["operation"] == "Update" else { return text }
    text += " using \(entry["apiVersion"].string ?? "")"
    if let time = entry["time"].string { text += " at \(time)" }
    return text
  }

  private static func conflict(_ conflicts: [(manager: String, path: String)]) -> StatusError {
    var message: String
    if conflicts.count == 1 {
      message =
        "Apply failed with 1 conflict: conflict with \(conflicts[0].manager): \(conflicts[0].path)"
    } else {
      var lines: [String] = []
      for manager in Set(conflicts.map(\.manager)).sorted() {
        lines.append("conflicts with \(manager):")
        for conflict in conflicts where conflict.manager == manager {
          lines.append("- \(conflict.path)")
        }
      }
      message =
        "Apply failed with \(conflicts.count) conflicts: " + lines.joined(separator: "\n")
    }
    return StatusError(
      code: 409, reason: .conflict, message: message,
      details: StatusError.Details(
        causes: conflicts.map {
          StatusError.Cause(
            reason: "FieldManagerConflict", message: "conflict with \($0.manager)", field: $0.path)
        }))
  }

  // MARK: Merging

  private func merge(
    _ wanted: Value, into live: Value, _ type: FieldType, _ field: FieldSchema?
  ) -> Value {
    let catalog = schema.catalog
    switch (wanted, live, type) {
    case (.object(let object), .object, .object(let id))
    where !(field?.isAtomic ?? false) && !catalog[id].isAtomic:
      var result = live
      for member in object.members {
        guard let field = catalog[id].field(member.key) else { continue }
        result.set(
          member.key, to: merge(member.value, into: live[member.key], field.type, field))
      }
      return result
    case (.object(let object), .object, .map(let element)) where !(field?.isAtomic ?? false):
      var result = live
      for member in object.members {
        result.set(member.key, to: merge(member.value, into: live[member.key], element, nil))
      }
      return result
    case (.array(let elements), .array(var result), .array(let element)):
      switch field?.listType ?? .atomic {
      case .atomic: return wanted
      case .set:
        for item in elements where !result.contains(item) { result.append(item) }
      case .map:
        for item in elements {
          let key = key(item, field, element)
          if let index = result.firstIndex(where: { self.key($0, field, element) == key }) {
            result[index] = merge(item, into: result[index], element, nil)
          } else {
            result.append(item)
          }
        }
      }
      return .array(result)
    default: return wanted
    }
  }

  private func key(_ item: Value, _ field: FieldSchema?, _ element: FieldType) -> String {
    FieldSet.elementKey(item, field?.mapKeys ?? [], element, schema.catalog)
  }

  /// Removes what was applied before and is kept by nobody.
  private func prune(
    _ value: Value, _ given: FieldSet, _ kept: FieldSet, _ type: FieldType, _ field: FieldSchema?
  ) -> Value {
    if given.children.isEmpty { return value }
    let catalog = schema.catalog
    var result = value
    /// What is left of a child; nil if nothing.
    func child(
      _ key: String, _ item: Value, _ type: FieldType, _ field: FieldSchema?
    ) -> Value? {
      guard let gone = given.children[key] else { return item }
      let others = kept.children[key] ?? FieldSet()
      if others.isEmpty, gone.isMember || gone.children.isEmpty { return nil }
      let left = prune(item, gone, others, type, field)
      // A container that nobody has anything in goes with its last member.
      return left.isEmpty && others.isEmpty && !item.isEmpty ? nil : left
    }
    switch (value, type) {
    case (.object(let object), .object(let id)):
      for member in object.members {
        guard let field = catalog[id].field(member.key) else { continue }
        result[member.key] =
          child("f:\(member.key)", member.value, field.type, field) ?? .null
      }
    case (.object(let object), .map(let element)):
      for member in object.members {
        result[member.key] = child("f:\(member.key)", member.value, element, nil) ?? .null
      }
    case (.array(let elements), .array(let element)):
      switch field?.listType ?? .atomic {
      case .atomic: break
      case .set:
        result = .array(
          elements.filter { child("v:\($0.jsonString)", $0, element, nil) != nil })
      case .map:
        result = .array(
          elements.compactMap { child(key($0, field, element), $0, element, nil) })
      }
    default: break
    }
    return result
  }
}

extension FieldSet {
  /// An applied map or list is owned by its members alone; one that is empty, by itself.
  mutating func leaveContainers() {
    for key in children.keys {
      guard var child = children[key] else { continue }
      // An element of a list is a member besides its fields.
      if !child.children.isEmpty, key.hasPrefix("f:") { child.isMember = false }
      child.leaveContainers()
      children[key] = child
    }
  }

  /// Takes away exactly the paths of `other`, not what lies below them.
  mutating func subtractPaths(of other: FieldSet) {
    if other.isMember { isMember = false }
    for (key, child) in other.children {
      guard var own = children[key] else { continue }
      own.subtractPaths(of: child)
      children[key] = own.isEmpty ? nil : own
    }
  }

  /// The paths that are in both.
  func intersection(_ other: FieldSet) -> FieldSet {
    var set = FieldSet(isMember: isMember && other.isMember)
    for (key, child) in children {
      guard let theirs = other.children[key] else { continue }
      let both = child.intersection(theirs)
      if !both.isEmpty { set.children[key] = both }
    }
    return set
  }

  /// The members without members below them, as messages write paths: `.spec.containers[name="web"].image`.
  var leafPaths: [String] {
    var paths: [String] = []
    for (key, child) in children {
      let step = Self.pathText(key)
      let below = child.leafPaths
      if below.isEmpty {
        if child.isMember { paths.append(step) }
      } else {
        paths += below.map { step + $0 }
      }
    }
    return paths
  }

  private static func pathText(_ key: String) -> String {
    let rest = key.dropFirst(2)
    switch key.prefix(2) {
    case "k:":
      guard let fields = try? Value(json: String(rest)) else { return "[\(rest)]" }
      return "["
        + fields.members.map { "\($0.key)=\($0.value.jsonString)" }.joined(separator: ",") + "]"
    case "v:": return "[=\(rest)]"
    default: return ".\(rest)"
    }
  }
}
