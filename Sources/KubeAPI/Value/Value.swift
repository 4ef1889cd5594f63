/// A JSON value as the API server, the controllers and the node agents hold it.
///
/// Objects of the Kubernetes API are dynamic here: one `Value` per object, checked against schemas
/// (`SchemaCatalog`), instead of one Swift struct per kind. That keeps fields that nothing acts on
/// yet, makes patches, defaulting, pruning and custom resources the same code for every kind, and
/// lets an object that is only passed through stay what it was.
///
/// What differs from a general JSON library:
///
/// - Objects keep the order in which their keys came, so that encoding is deterministic.
/// - `int64` and `double` are kept apart: `1` and `1.0` are different, and no integer that fits
///   64 bits ever goes through floating point. Integers beyond that become doubles, as they do in
///   Kubernetes.
/// - Reading is total: `value["spec"]["replicas"].integer` is `nil` if any step is missing or of
///   another type. Writing makes the objects on the way: `value["metadata"]["labels"]["a"] = "b"`.
/// - Equality ignores the order of keys and is exact otherwise (`1 != 1.0`).
///
/// A value's nesting is bounded by the parser (`Limits.nestingDepth`), so the recursive functions
/// over it (encoding, equality, patches, destruction) cannot exhaust a stack.
///
/// ```swift
/// var pod: Value = ["apiVersion": "v1", "kind": "Pod", "metadata": ["name": "web"]]
/// pod["spec"]["containers"] = [["name": "c", "image": "busybox"]]
/// pod["metadata"]["name"].string            // "web"
/// pod["spec"]["containers"][0]["image"]     // "busybox"
/// pod["metadata"]["labels"]["app"].string   // nil
/// ```
public enum Value: Sendable, Equatable {
  case null
  case bool(Bool)
  case integer(Int64)
  case double(Double)
  case string(String)
  case array([Value])
  case object(Object)

  /// Bounds on what is taken from outside.
  public enum Limits {
    /// How deep arrays and objects may nest. Deeper input is an error: every recursive walk over a
    /// value takes stack in proportion. The deepest built-in type, a Pod's, nests about 20 levels.
    public static let nestingDepth = 512
    /// Objects up to this size are searched linearly, larger ones through an index.
    static let linearSearch = 16
    /// How many duplicate keys or unknown fields are listed before the rest is left out.
    public static let strictErrors = 100
  }
}

// MARK: Reading

extension Value {
  public var isNull: Bool {
    if case .null = self { true } else { false }
  }
  public var bool: Bool? {
    if case .bool(let value) = self { value } else { nil }
  }
  public var integer: Int64? {
    if case .integer(let value) = self { value } else { nil }
  }
  /// The integer as `Int`, if this is one.
  public var int: Int? {
    if case .integer(let value) = self { Int(exactly: value) } else { nil }
  }
  public var double: Double? {
    switch self {
    case .double(let value): value
    case .integer(let value): Double(value)
    default: nil
    }
  }
  public var string: String? {
    if case .string(let value) = self { value } else { nil }
  }
  public var array: [Value]? {
    if case .array(let value) = self { value } else { nil }
  }
  public var object: Object? {
    if case .object(let value) = self { value } else { nil }
  }

  /// The elements of an array; none if this isn't one.
  public var elements: [Value] {
    if case .array(let value) = self { value } else { [] }
  }
  /// The members of an object in order; none if this isn't one.
  public var members: [Object.Member] {
    if case .object(let value) = self { value.members } else { [] }
  }
  /// The strings of an array of strings; other elements are left out.
  public var strings: [String] { elements.compactMap(\.string) }

  /// Null, an empty string, array or object: what Go's `omitempty` calls empty, numbers and
  /// booleans apart.
  public var isEmpty: Bool {
    switch self {
    case .null: true
    case .string(let value): value.isEmpty
    case .array(let value): value.isEmpty
    case .object(let value): value.isEmpty
    case .bool, .integer, .double: false
    }
  }

  /// The member `key`, or nil where this is not an object or has no such key. A member that is
  /// there and null is `.null`.
  public func find(_ key: String) -> Value? {
    if case .object(let value) = self { value.find(key) } else { nil }
  }

  public func has(_ key: String) -> Bool { find(key) != nil }

  /// The value at the end of `path`, or nil where a step is missing.
  public func find(path: some Sequence<String>) -> Value? {
    var current = self
    for key in path {
      guard let next = current.find(key) else { return nil }
      current = next
    }
    return current
  }
}

// MARK: Access and mutation

extension Value {
  // Changes happen in place: the payload is taken out of the enum, so that it has one owner, changed
  // and put back. Taking is a function of its own because a `switch` keeps a second reference until
  // its end, which would turn every change into a copy.

  private mutating func takeObject() -> Object? {
    guard case .object(let own) = self else { return nil }
    self = .null
    return own
  }

  private mutating func takeArray() -> [Value]? {
    guard case .array(let own) = self else { return nil }
    self = .null
    return own
  }

  /// A member of an object.
  ///
  /// Reading a missing member, or a member of something else than an object, gives `.null`.
  /// Assigning makes this an object if it was null; assigning `.null` removes the member (use
  /// `set(_:to:)` for an explicit null). On a scalar or an array, assigning does nothing: wrongly
  /// typed input is reported by the schema check, not by a trap here.
  public subscript(key: String) -> Value {
    get { find(key) ?? .null }
    _modify {
      if var own = takeObject() {
        defer { self = .object(own) }
        yield &own[key]
      } else if isNull {
        var own = Object()
        yield &own[key]
        if !own.isEmpty { self = .object(own) }
      } else {
        var ignored = Value.null
        yield &ignored
      }
    }
  }

  /// An element of an array. Reading outside of it, or from something else, gives `.null`;
  /// assigning there does nothing.
  public subscript(index: Int) -> Value {
    get {
      guard case .array(let own) = self, own.indices.contains(index) else { return .null }
      return own[index]
    }
    _modify {
      if var own = takeArray() {
        defer { self = .array(own) }
        if own.indices.contains(index) {
          yield &own[index]
          return
        }
      }
      var ignored = Value.null
      yield &ignored
    }
  }

  /// Stores `value` under `key` even if it is null. Does nothing on a scalar or an array.
  public mutating func set(_ key: String, to value: Value) {
    guard var own = takeObject() ?? (isNull ? Object() : nil) else { return }
    own.set(key, to: value)
    self = .object(own)
  }

  /// Stores `value` under `key` unless there is a value that isn't null already.
  /// Answers whether it did.
  @discardableResult
  public mutating func setDefault(_ key: String, to value: @autoclosure () -> Value) -> Bool {
    guard self[key].isNull else { return false }
    self[key] = value()
    return true
  }

  /// Removes a member of an object and returns it.
  @discardableResult
  public mutating func remove(_ key: String) -> Value? {
    guard var own = takeObject() else { return nil }
    defer { self = .object(own) }
    return own.remove(key)
  }

  /// Adds an element at the end; null becomes an array of one.
  public mutating func append(_ element: Value) {
    guard var own = takeArray() ?? (isNull ? [] : nil) else { return }
    own.append(element)
    self = .array(own)
  }

  /// Inserts into an array; the index must be within it or at its end.
  mutating func insert(_ element: Value, at index: Int) {
    guard var own = takeArray() else { return }
    if index >= 0, index <= own.count { own.insert(element, at: index) }
    self = .array(own)
  }

  mutating func removeElement(at index: Int) -> Value? {
    guard var own = takeArray() else { return nil }
    defer { self = .array(own) }
    return own.indices.contains(index) ? own.remove(at: index) : nil
  }
}

// MARK: Literals

extension Value: ExpressibleByNilLiteral, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByFloatLiteral, ExpressibleByStringLiteral, ExpressibleByStringInterpolation,
  ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  public init(nilLiteral: ()) { self = .null }
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  public init(integerLiteral value: Int64) { self = .integer(value) }
  public init(floatLiteral value: Double) { self = .double(value) }
  public init(stringLiteral value: String) { self = .string(value) }
  public init(arrayLiteral elements: Value...) { self = .array(elements) }
  /// A key that comes twice keeps its first place and its last value.
  public init(dictionaryLiteral elements: (String, Value)...) {
    var object = Object()
    for (key, value) in elements { object.set(key, to: value) }
    self = .object(object)
  }

  public init(_ value: Bool) { self = .bool(value) }
  public init(_ value: some FixedWidthInteger) {
    self = Int64(exactly: value).map(Value.integer) ?? .double(Double(value))
  }
  public init(_ value: String) { self = .string(value) }
  public init(_ value: String?) { self = value.map(Value.string) ?? .null }
  public init(_ value: some Sequence<String>) { self = .array(value.map(Value.string)) }
  public init(_ value: Object) { self = .object(value) }
}

extension Value: CustomStringConvertible {
  /// Compact JSON.
  public var description: String { jsonString }
}
