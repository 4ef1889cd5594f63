/// The header fields of a request or a response, in the order in which they came.
///
/// Names are compared without regard to case (RFC 9110, section 5.1). Look-ups are linear: a request
/// of a Kubernetes client carries about ten fields.
public struct HTTPFields: Sendable, Equatable, ExpressibleByDictionaryLiteral {
  public struct Field: Sendable, Equatable {
    public var name: String
    public var value: String
    public init(name: String, value: String) {
      self.name = name
      self.value = value
    }
  }

  public private(set) var fields: [Field]

  public init() { fields = [] }

  public init(_ fields: [Field]) { self.fields = fields }

  public init(dictionaryLiteral elements: (String, String)...) {
    fields = elements.map { Field(name: $0.0, value: $0.1) }
  }

  public mutating func append(_ name: String, _ value: String) {
    fields.append(Field(name: name, value: value))
  }

  /// Every value of the field, in order.
  public func values(of name: String) -> [String] {
    fields.filter { $0.name.isEqual(ignoringCaseTo: name) }.map(\.value)
  }

  public func contains(_ name: String) -> Bool {
    fields.contains { $0.name.isEqual(ignoringCaseTo: name) }
  }

  /// The first value of the field. Setting replaces all values; setting nil removes them.
  public subscript(name: String) -> String? {
    get { fields.first { $0.name.isEqual(ignoringCaseTo: name) }?.value }
    set {
      fields.removeAll { $0.name.isEqual(ignoringCaseTo: name) }
      if let newValue { append(name, newValue) }
    }
  }
}

extension String {
  /// Equality over ASCII letters of either case; other bytes must match exactly.
  func isEqual(ignoringCaseTo other: String) -> Bool {
    var left = utf8.makeIterator()
    var right = other.utf8.makeIterator()
    guard utf8.count == other.utf8.count else { return false }
    while let a = left.next(), let b = right.next() {
      if a == b { continue }
      let lowered = a | 0x20
      guard lowered == b | 0x20, lowered >= 0x61, lowered <= 0x7A else { return false }
    }
    return true
  }
}
