import KubeAPI

/// Keeps `metadata.managedFields`: which manager last set which field.
///
/// A write gives its manager the fields that it changed and takes them from the others; fields that
/// are gone belong to nobody. An entry stands for a manager, an operation and a subresource.
///
/// Server-side apply, which also reads what it finds here, has a file of its own (`ServerSideApply`).
enum ManagedFields {
  enum Limits {
    /// Entries per object; the oldest go first, as in Kubernetes.
    static let entries = 10
  }

  /// - Parameters:
  ///   - object: the object about to be written; its `managedFields` are replaced.
  ///   - old: the stored object, or null for a new one.
  static func update(
    _ object: inout Value, from old: Value, schema: Schema, apiVersion: String, manager: String,
    subresource: String, now: Timestamp
  ) {
    var entries = base(of: object, old)
    var changed = FieldSet.changes(from: old, to: object, schema: schema)
    // A new object's empty status is the server's doing, not the client's.
    if subresource.isEmpty && schema.field("status") != nil { changed.children["f:status"] = nil }
    let removed = old.isNull ? FieldSet() : FieldSet.removals(from: old, to: object, schema: schema)
    defer { object["metadata"]["managedFields"] = entries.isEmpty ? .null : .array(entries) }
    if changed.isEmpty && removed.isEmpty { return }
    var own: Int?
    for index in entries.indices {
      let isOwn =
        entries[index]["manager"].string == manager
        && entries[index]["operation"].string == "Update"
        && (entries[index]["subresource"].string ?? "") == subresource
      var set = FieldSet(entries[index]["fieldsV1"])
      let before = set
      if isOwn {
        own = index
        set.formUnion(changed)
        entries[index]["time"] = Value(now.description)
        entries[index]["apiVersion"] = Value(apiVersion)
      } else {
        set.subtract(changed)
      }
      set.subtract(removed)
      if set != before { entries[index]["fieldsV1"] = set.value }
    }
    if own == nil && !changed.isEmpty {
      var entry: Value = [
        "manager": Value(manager), "operation": "Update", "apiVersion": Value(apiVersion),
        "time": Value(now.description), "fieldsType": "FieldsV1", "fieldsV1": changed.value,
      ]
      if !subresource.isEmpty { entry["subresource"] = Value(subresource) }
      entries.append(entry)
    }
    entries.removeAll { $0["fieldsV1"].isEmpty }
    if entries.count > Limits.entries { entries.removeFirst(entries.count - Limits.entries) }
  }

  /// The entries that a write begins with: the stored ones, unless the client sends others. An empty list forgets
  /// all. Source: Kubernetes, "Server-Side Apply", clearing managedFields.
  private static func base(of object: Value, _ old: Value) -> [Value] {
    guard case .array(let given) = object["metadata"]["managedFields"], !old.isNull else {
      return old["metadata"]["managedFields"].elements
    }
    if given.allSatisfy(\.isEmpty) { return [] }
    let isValid = given.allSatisfy { entry in
      ["Apply", "Update"].contains(entry["operation"].string)
        && entry["fieldsType"].string == "FieldsV1" && entry["fieldsV1"].object != nil
        && !(entry["apiVersion"].string ?? "").isEmpty
    }
    return isValid ? given : old["metadata"]["managedFields"].elements
  }

  /// Whether two lists of entries say the same, whenever they were written.
  static func areEqual(_ one: Value, _ other: Value) -> Bool {
    func timeless(_ list: Value) -> [Value] {
      list.elements.map { entry in
        var entry = entry
        entry["time"] = .null
        return entry
      }
    }
    return timeless(one) == timeless(other)
  }
}
