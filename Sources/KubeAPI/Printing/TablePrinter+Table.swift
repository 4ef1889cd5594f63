extension TablePrinter {
  /// What each row carries besides its cells.
  public enum IncludedObject: String, Sendable {
    /// Nothing.
    case none = "None"
    /// The object's metadata, as PartialObjectMetadata: what is asked for by default.
    case metadata = "Metadata"
    /// The whole object.
    case object = "Object"
  }

  /// A `Table` of objects.
  ///
  /// - Parameters:
  ///   - listMetadata: the list's `metadata` (resourceVersion, continue).
  ///   - hasColumns: false in a watch from the second event on, where the definitions are left out.
  public func table(
    _ objects: [Value], listMetadata: Value, include: IncludedObject = .metadata, now: Timestamp,
    hasColumns: Bool = true
  ) -> Value {
    [
      "kind": "Table", "apiVersion": "meta.k8s.io/v1",
      "metadata": listMetadata.isNull ? [:] : listMetadata,
      "columnDefinitions": hasColumns ? .array(columns.map(\.value)) : .null,
      "rows": .array(objects.map { row($0, include: include, now: now) }),
    ]
  }

  public func row(_ object: Value, include: IncludedObject, now: Timestamp) -> Value {
    var row: Value = ["cells": .array(cells(object, now))]
    switch include {
    case .none: break
    case .metadata: row["object"] = object.partialMetadata
    case .object: row["object"] = object
    }
    return row
  }
}

extension Value {
  /// The object's metadata alone.
  public var partialMetadata: Value {
    ["kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": self["metadata"]]
  }
}

// MARK: Cells

/// A duration as people read it, with two units at most: `45s`, `5m`, `3h20m`, `2d`.
///
/// Clocks differ: up to a second in the future counts as now.
public func humanDuration(_ duration: Duration) -> String {
  let total = duration.components.seconds
  if total < -1 { return "<invalid>" }
  let seconds = max(0, total)
  func two(_ big: Int64, _ bigUnit: String, _ small: Int64, _ smallUnit: String) -> String {
    small == 0 ? "\(big)\(bigUnit)" : "\(big)\(bigUnit)\(small)\(smallUnit)"
  }
  if seconds < 120 { return "\(seconds)s" }
  let minutes = seconds / 60
  if minutes < 10 { return two(minutes, "m", seconds % 60, "s") }
  if minutes < 180 { return "\(minutes)m" }
  let hours = minutes / 60
  if hours < 8 { return two(hours, "h", minutes % 60, "m") }
  if hours < 48 { return "\(hours)h" }
  let days = hours / 24
  if hours < 192 { return two(days, "d", hours % 24, "h") }
  if days < 730 { return "\(days)d" }
  if days < 2920 { return two(days / 365, "y", days % 365, "d") }
  return "\(days / 365)y"
}

enum Cell {
  static func name(_ object: Value) -> Value { .string(object["metadata"]["name"].string ?? "") }

  static func age(_ object: Value, _ now: Timestamp) -> Value {
    since(object["metadata"]["creationTimestamp"], now)
  }

  static func since(_ time: Value, _ now: Timestamp) -> Value {
    .string(time.timestamp.map { humanDuration(now.since($0)) } ?? "<unknown>")
  }

  static func number(_ value: Value, default: Int64 = 0) -> Value {
    .integer(value.integer ?? `default`)
  }

  static func text(_ value: Value, default: String = "") -> Value {
    let text = value.string ?? ""
    return .string(text.isEmpty ? `default` : text)
  }

  /// The names of a pod specification's containers.
  static func containers(_ spec: Value) -> Value {
    .string(spec["containers"].elements.map { $0["name"].string ?? "" }.joined(separator: ","))
  }

  static func images(_ spec: Value) -> Value {
    .string(spec["containers"].elements.map { $0["image"].string ?? "" }.joined(separator: ","))
  }

  /// A map as `a=1,b=2`, sorted.
  static func labels(_ map: Value, default: String = "<none>") -> Value {
    let pairs = map.members.map { "\($0.key)=\($0.value.string ?? "")" }.sorted()
    return .string(pairs.isEmpty ? `default` : pairs.joined(separator: ","))
  }

  static func selector(_ selector: Value) -> Value {
    guard selector.object != nil else { return "<none>" }
    guard let parsed = try? LabelSelector(object: selector) else { return "<error>" }
    return .string(parsed.requirements.isEmpty ? "<none>" : parsed.description)
  }
}
