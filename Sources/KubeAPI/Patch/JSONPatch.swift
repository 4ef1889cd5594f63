/// JSON patch (RFC 6902): a list of operations, all or none of which take effect.
///
/// Paths are JSON pointers (RFC 6901). As in Kubernetes, a negative index counts from the end.
/// Operations can copy parts of an object into each other and so make it grow exponentially in size
/// and depth; `Limits` bounds both.
public enum JSONPatch {
  public enum Limits {
    /// Operations in one patch.
    public static let operations = 10_000
    /// Bytes that all copies of one patch may add, as JSON: the greatest request.
    public static let copiedBytes = 3 * 1024 * 1024
  }

  /// - Throws: 400 for what is no patch, 422 for an operation that doesn't apply, 413 for too many.
  public static func apply(_ patch: Value, to original: Value) throws(PatchError) -> Value {
    guard case .array(let operations) = patch else {
      throw .malformed(
        "json: cannot unmarshal \(patch.jsonTypeName) into Go value of type jsonpatch.Patch")
    }
    if operations.count > Limits.operations {
      throw PatchError(
        fault: .tooLarge,
        message: "The allowed maximum operations in a JSON patch is \(Limits.operations), got "
          + "\(operations.count)")
    }
    var document = original
    var copied = 0
    for operation in operations {
      try apply(operation, to: &document, copied: &copied)
    }
    return document
  }

  private static func apply(
    _ operation: Value, to document: inout Value, copied: inout Int
  ) throws(PatchError) {
    guard case .object = operation else { throw .malformed("Invalid JSON Patch") }
    let name = operation["op"].string ?? ""
    let path = try pointer(operation, "path", of: name)
    switch name {
    case "add":
      try add(try value(operation, name), at: path, to: &document, name)
    case "remove":
      _ = try remove(at: path, from: &document, name)
    case "replace":
      let new = try value(operation, name)
      try checkDepth(new, at: path, name)
      try edit(&document, path[...], name, path) { (node, step) throws(PatchError) in
        guard let step else {
          node = new
          return
        }
        switch try place(of: step, in: node, allowsEnd: false, name, path) {
        case .member where node.has(step): node.set(step, to: new)
        case .element(let index, let count) where index < count: node[index] = new
        default: throw missing(name, path)
        }
      }
    case "move":
      let from = try pointer(operation, "from", of: name)
      if path.starts(with: from), path.count > from.count {
        throw .doesNotApply("move operation does not apply: cannot move a value into itself")
      }
      let moved = try remove(at: from, from: &document, name)
      try add(moved, at: path, to: &document, name)
    case "copy":
      let from = try pointer(operation, "from", of: name)
      guard let source = get(from, in: document) else { throw missing(name, from) }
      copied += source.json.count
      if copied > Limits.copiedBytes {
        throw .doesNotApply(
          "Unable to complete the copy, the accumulated size increase of copy is \(copied), "
            + "exceeding the limit \(Limits.copiedBytes)")
      }
      try add(source, at: path, to: &document, name)
    case "test":
      // Testing for null holds for what isn't there, too.
      let expected = operation["value"]
      guard get(path, in: document) ?? .null == expected else {
        throw .doesNotApply("testing value \(text(path)) failed: test failed")
      }
    default: throw .malformed("Unexpected kind: \(name)")
    }
  }

  // MARK: Operations

  private static func add(
    _ new: Value, at path: [String], to document: inout Value, _ name: String
  ) throws(PatchError) {
    try checkDepth(new, at: path, name)
    try edit(&document, path[...], name, path) { (node, step) throws(PatchError) in
      guard let step else {
        node = new
        return
      }
      switch try place(of: step, in: node, allowsEnd: true, name, path) {
      case .member: node.set(step, to: new)
      case .element(let index, _): node.insert(new, at: index)
      }
    }
  }

  private static func remove(
    at path: [String], from document: inout Value, _ name: String
  ) throws(PatchError) -> Value {
    var removed: Value?
    try edit(&document, path[...], name, path) { (node, step) throws(PatchError) in
      guard let step else { throw missing(name, path) }
      switch try place(of: step, in: node, allowsEnd: false, name, path) {
      case .member: removed = node.remove(step)
      case .element(let index, let count) where index < count:
        removed = node.removeElement(at: index)
      default: throw missing(name, path)
      }
    }
    guard let removed else { throw missing(name, path) }
    return removed
  }

  /// Where the last step of a path leads in its container.
  private enum Place {
    case member
    /// An index up to the count, which is the place behind the last element.
    case element(index: Int, count: Int)
  }

  private static func place(
    of step: String, in node: Value, allowsEnd: Bool, _ name: String, _ path: [String]
  ) throws(PatchError) -> Place {
    switch node {
    case .object: return .member
    case .array(let array):
      guard let index = index(step, count: array.count, allowsEnd: allowsEnd) else {
        throw missing(name, path)
      }
      return .element(index: index, count: array.count)
    default: throw missing(name, path)
    }
  }

  /// Walks to the container of the last step and lets `change` work there, in place: a patch of many
  /// operations must not copy the document for each. For an empty path the step is nil and the node
  /// the document.
  private static func edit(
    _ node: inout Value, _ rest: ArraySlice<String>, _ name: String, _ path: [String],
    _ change: (inout Value, String?) throws(PatchError) -> Void
  ) throws(PatchError) {
    guard let step = rest.first else { return try change(&node, nil) }
    if rest.count == 1 { return try change(&node, step) }
    // No binding of the container here: a second reference would make the change below a copy.
    if node.object != nil {
      guard node.has(step) else { throw missing(name, path) }
      try edit(&node[step], rest.dropFirst(), name, path, change)
    } else {
      guard let count = node.array?.count, let index = index(step, count: count, allowsEnd: false)
      else { throw missing(name, path) }
      try edit(&node[index], rest.dropFirst(), name, path, change)
    }
  }

  private static func get(_ path: [String], in document: Value) -> Value? {
    var node = document
    for step in path {
      switch node {
      case .object(let object):
        guard let next = object.find(step) else { return nil }
        node = next
      case .array(let array):
        guard let index = index(step, count: array.count, allowsEnd: false) else { return nil }
        node = array[index]
      default: return nil
      }
    }
    return node
  }

  // MARK: Parts of an operation

  private static func value(_ operation: Value, _ name: String) throws(PatchError) -> Value {
    guard let value = operation.find("value") else {
      throw .malformed("\(name) operation: missing value")
    }
    return value
  }

  /// The steps of a JSON pointer.
  private static func pointer(
    _ operation: Value, _ member: String, of name: String
  ) throws(PatchError) -> [String] {
    guard let text = operation[member].string, text.isEmpty || text.hasPrefix("/") else {
      throw .malformed("\(name) operation: missing or invalid \(member)")
    }
    let steps = text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
      .dropFirst().map { unescaped(Array($0)) }
    if steps.count > Value.Limits.nestingDepth { throw .malformed("exceeded max depth") }
    return steps
  }

  /// `~1` stands for a slash, `~0` for a tilde.
  private static func unescaped(_ step: [UInt8]) -> String {
    var result: [UInt8] = []
    var index = 0
    while index < step.count {
      if step[index] == UInt8(ascii: "~"), index + 1 < step.count,
        step[index + 1] == UInt8(ascii: "0") || step[index + 1] == UInt8(ascii: "1")
      {
        result.append(step[index + 1] == UInt8(ascii: "0") ? UInt8(ascii: "~") : UInt8(ascii: "/"))
        index += 2
      } else {
        result.append(step[index])
        index += 1
      }
    }
    return String(decoding: result, as: UTF8.self)
  }

  private static func index(_ token: String, count: Int, allowsEnd: Bool) -> Int? {
    if token == "-" { return allowsEnd ? count : nil }
    let digits = token.hasPrefix("-") ? token.dropFirst() : token[...]
    guard !digits.hasPrefix("+"), let number = Int(digits) else { return nil }
    // Adding before the last of n elements is -2 + 1: the end counts as an index there.
    let bound = allowsEnd ? count + 1 : count
    let index = token.hasPrefix("-") ? bound - number : number
    return index >= 0 && index < bound ? index : nil
  }

  private static func checkDepth(
    _ value: Value, at path: [String], _ name: String
  ) throws(PatchError) {
    if path.count + value.nestingDepth > Value.Limits.nestingDepth {
      throw .doesNotApply("\(name) operation does not apply: exceeded max depth")
    }
  }

  private static func text(_ path: [String]) -> String {
    path.map { "/" + $0 }.joined()
  }

  private static func missing(_ name: String, _ path: [String]) -> PatchError {
    .doesNotApply(
      "\(name) operation does not apply: doc is missing path: \(text(path)): missing value")
  }
}

extension Value {
  /// How many arrays and objects lie within each other; 0 for a scalar.
  var nestingDepth: Int {
    switch self {
    case .array(let elements): 1 + (elements.lazy.map(\.nestingDepth).max() ?? 0)
    case .object(let object): 1 + (object.members.lazy.map(\.value.nestingDepth).max() ?? 0)
    default: 0
    }
  }

  /// The name of the JSON type, as Go's decoder calls it.
  var jsonTypeName: String {
    switch self {
    case .null: "null"
    case .bool: "bool"
    case .integer, .double: "number"
    case .string: "string"
    case .array: "array"
    case .object: "object"
    }
  }
}
