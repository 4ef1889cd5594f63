import KubeAPI

/// Keeps `metadata.managedFields`: which manager last set which field.
///
/// A write gives its manager the fields that it changed and takes them from the others; fields that
/// are gone belong to nobody. An entry stands for a manager, an operation and a subresource.
///
/// What is left out: ownership by server-side apply, and the conflicts that follow from it.
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
    var entries = old["metadata"]["managedFields"].elements
    var changed = FieldSet.changes(from: old, to: object, schema: schema)
    // A new object's empty status is the server's doing, not the client's.
    if subresource.isEmpty && schema.field("status") != nil { changed.children["f:status"] = nil }
    let removed = removals(from: old, to: object, schema: schema)
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

  private static func removals(from old: Value, to new: Value, schema: Schema) -> FieldSet {
    if old.isNull { return FieldSet() }
    var gone = FieldSet.fields(of: old, schema: schema)
    gone.subtractPaths(of: FieldSet.fields(of: new, schema: schema))
    return gone
  }
}

extension FieldSet {
  /// Takes away exactly the paths of `other`, not what lies below them.
  mutating func subtractPaths(of other: FieldSet) {
    if other.isMember { isMember = false }
    for (key, child) in other.children {
      guard var own = children[key] else { continue }
      own.subtractPaths(of: child)
      children[key] = own.isEmpty ? nil : own
    }
  }
}
