/// Why a selector's text or object is none.
public struct SelectorError: Error, Equatable, Sendable, CustomStringConvertible {
  public let message: String

  public init(message: String) { self.message = message }
  public var description: String { message }
}

/// A condition on labels: all of its requirements hold. Without requirements everything matches.
///
/// ```swift
/// let selector = try LabelSelector("app=web,tier in (a,b),!canary")
/// selector.matches(pod["metadata"]["labels"])
/// ```
public struct LabelSelector: Sendable, Equatable {
  public enum Operator: Sendable, Equatable {
    case equals, notEquals, `in`, notIn, exists, doesNotExist, greaterThan, lessThan
  }

  public struct Requirement: Sendable, Equatable {
    public let key: String
    public let `operator`: Operator
    /// Sorted; one for comparisons, none for existence.
    public let values: [String]
  }

  /// Sorted by key.
  public let requirements: [Requirement]
  private let matchesNothing: Bool

  private init(_ requirements: [Requirement], matchesNothing: Bool = false) {
    // Sorting is stable, so that equal selectors are written alike.
    self.requirements = requirements.sorted { $0.key < $1.key }
    self.matchesNothing = matchesNothing
  }

  public static let everything = LabelSelector([])
  public static let nothing = LabelSelector([], matchesNothing: true)

  /// All of these labels with these values.
  public init(labels: Value) {
    self.init(
      labels.members.map {
        Requirement(key: $0.key, operator: .equals, values: [$0.value.string ?? ""])
      })
  }

  /// A `LabelSelector` object as specifications hold it; null selects nothing, an empty one
  /// everything.
  public init(object: Value) throws(SelectorError) {
    guard !object.isNull else {
      self = .nothing
      return
    }
    var requirements: [Requirement] = []
    for label in object["matchLabels"].members {
      requirements.append(
        try Requirement(validating: label.key, .equals, [label.value.string ?? ""]))
    }
    for expression in object["matchExpressions"].elements {
      let kind: Operator
      switch expression["operator"].string {
      case "In": kind = .in
      case "NotIn": kind = .notIn
      case "Exists": kind = .exists
      case "DoesNotExist": kind = .doesNotExist
      default:
        throw SelectorError(
          message: "\(quoted(expression["operator"].string ?? "")) is not a valid label selector "
            + "operator")
      }
      requirements.append(
        try Requirement(
          validating: expression["key"].string ?? "", kind, expression["values"].strings))
    }
    self.init(requirements)
  }

  /// A selector as requests carry it: `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a`, `!a`,
  /// `a>1`, `a<1`, joined by commas.
  public init(_ text: String) throws(SelectorError) {
    var parser = LabelSelectorParser(text)
    self.init(try parser.parse())
  }

  public var isEverything: Bool { requirements.isEmpty && !matchesNothing }

  /// - Parameter labels: the object's `metadata.labels`, or null.
  public func matches(_ labels: Value) -> Bool {
    !matchesNothing && requirements.allSatisfy { $0.matches(labels) }
  }
}

extension LabelSelector.Requirement {
  init(
    validating key: String, _ kind: LabelSelector.Operator, _ values: [String]
  ) throws(SelectorError) {
    func fail(_ error: FieldError) -> SelectorError { SelectorError(message: error.description) }
    let path = FieldPath("key")
    if let problem = Names.qualifiedNameProblems(key).first {
      throw fail(.invalid(path, .string(key), problem))
    }
    let list = Value(values)
    let valuesPath = FieldPath("values")
    switch kind {
    case .in, .notIn:
      if values.isEmpty {
        throw fail(
          .invalid(
            valuesPath, list, "for 'in', 'notin' operators, values set can't be empty"))
      }
    case .equals, .notEquals:
      if values.count != 1 {
        throw fail(
          .invalid(valuesPath, list, "exact-match compatibility requires one single value"))
      }
    case .exists, .doesNotExist:
      if !values.isEmpty {
        throw fail(
          .invalid(valuesPath, list, "values set must be empty for exists and does not exist"))
      }
    case .greaterThan, .lessThan:
      if values.count != 1 {
        throw fail(
          .invalid(valuesPath, list, "for 'Gt', 'Lt' operators, exactly one value is required"))
      }
      if Int64(values[0]) == nil {
        throw fail(
          .invalid(
            valuesPath.index(0), .string(values[0]),
            "for 'Gt', 'Lt' operators, the value must be an integer"))
      }
    }
    for (index, value) in values.enumerated() {
      if let problem = Names.labelValueProblems(value).first {
        throw fail(
          .invalid(valuesPath.index(index).key(key), .string(value), problem))
      }
    }
    self.key = key
    self.operator = kind
    self.values = Array(Set(values)).sorted()
  }

  public func matches(_ labels: Value) -> Bool {
    let label = labels.find(key)?.string
    switch `operator` {
    case .equals, .in: return label.map(values.contains) ?? false
    case .notEquals, .notIn: return label.map { !values.contains($0) } ?? true
    case .exists: return label != nil
    case .doesNotExist: return label == nil
    case .greaterThan, .lessThan:
      guard let label, let number = Int64(label), let bound = values.first.flatMap({ Int64($0) })
      else { return false }
      return `operator` == .greaterThan ? number > bound : number < bound
    }
  }
}

extension LabelSelector: CustomStringConvertible {
  public var description: String {
    requirements.map(\.description).joined(separator: ",")
  }
}

extension LabelSelector.Requirement: CustomStringConvertible {
  public var description: String {
    switch `operator` {
    case .exists: key
    case .doesNotExist: "!\(key)"
    case .equals: "\(key)=\(values.first ?? "")"
    case .notEquals: "\(key)!=\(values.first ?? "")"
    case .greaterThan: "\(key)>\(values.first ?? "")"
    case .lessThan: "\(key)<\(values.first ?? "")"
    case .in: "\(key) in (\(values.joined(separator: ",")))"
    case .notIn: "\(key) notin (\(values.joined(separator: ",")))"
    }
  }
}

/// Parses a selector's text with one token of look-ahead.
private struct LabelSelectorParser {
  private enum Token: Equatable {
    case identifier(String)
    case symbol(String)
    case end

    var text: String {
      switch self {
      case .identifier(let text), .symbol(let text): text
      case .end: ""
      }
    }
  }

  private var tokens: [Token]
  private var position = 0

  init(_ text: String) {
    tokens = LabelSelectorParser.lex(text)
  }

  private static func lex(_ text: String) -> [Token] {
    var tokens: [Token] = []
    var rest = Substring(text).utf8
    let symbols = Set("(),!=<>".utf8)
    let isSpace = { (byte: UInt8) in byte == 0x20 || byte == 0x09 || byte == 0x0d || byte == 0x0a }
    while let byte = rest.first {
      if isSpace(byte) {
        rest.removeFirst()
      } else if symbols.contains(byte) {
        rest.removeFirst()
        var symbol = String(Character(Unicode.Scalar(byte)))
        if rest.first == UInt8(ascii: "="), symbol == "=" || symbol == "!" {
          rest.removeFirst()
          symbol += "="
        }
        tokens.append(.symbol(symbol))
      } else {
        let word = rest.prefix { !isSpace($0) && !symbols.contains($0) }
        rest.removeFirst(word.count)
        tokens.append(.identifier(String(Substring(word))))
      }
    }
    return tokens
  }

  private var next: Token { position < tokens.count ? tokens[position] : .end }

  private mutating func consume() -> Token {
    let token = next
    position += 1
    return token
  }

  mutating func parse() throws(SelectorError) -> [LabelSelector.Requirement] {
    var requirements: [LabelSelector.Requirement] = []
    while true {
      switch next {
      case .end: return requirements
      case .identifier, .symbol("!"):
        do {
          requirements.append(try parseRequirement())
        } catch {
          throw SelectorError(message: "unable to parse requirement: \(error.message)")
        }
      default: throw unexpected(next, "!, identifier, or 'end of string'")
      }
      switch consume() {
      case .end: return requirements
      case .symbol(","):
        switch next {
        case .identifier, .symbol("!"): continue
        default: throw unexpected(next, "identifier after ','")
        }
      case let token: throw unexpected(token, "',' or 'end of string'")
      }
    }
  }

  private mutating func parseRequirement() throws(SelectorError) -> LabelSelector.Requirement {
    let isNegated = next == .symbol("!")
    if isNegated { position += 1 }
    guard case .identifier(let key) = consume() else {
      position -= 1
      throw unexpected(next, "identifier")
    }
    if isNegated {
      return try LabelSelector.Requirement(validating: key, .doesNotExist, [])
    }
    if next == .end || next == .symbol(",") {
      return try LabelSelector.Requirement(validating: key, .exists, [])
    }
    let token = consume()
    switch token {
    case .identifier("in"):
      return try LabelSelector.Requirement(validating: key, .in, try parseValues())
    case .identifier("notin"):
      return try LabelSelector.Requirement(validating: key, .notIn, try parseValues())
    case .symbol("="), .symbol("=="):
      return try LabelSelector.Requirement(validating: key, .equals, [try parseValue()])
    case .symbol("!="):
      return try LabelSelector.Requirement(validating: key, .notEquals, [try parseValue()])
    case .symbol(">"):
      return try LabelSelector.Requirement(validating: key, .greaterThan, [try parseValue()])
    case .symbol("<"):
      return try LabelSelector.Requirement(validating: key, .lessThan, [try parseValue()])
    default: throw unexpected(token, "in, notin, =, ==, !=, gt, lt")
    }
  }

  /// A value after `=`; none is the empty string.
  private mutating func parseValue() throws(SelectorError) -> String {
    switch next {
    case .end, .symbol(","): return ""
    case .identifier(let value):
      position += 1
      return value
    default: throw unexpected(next, "identifier")
    }
  }

  private mutating func parseValues() throws(SelectorError) -> [String] {
    guard consume() == .symbol("(") else {
      position -= 1
      throw unexpected(next, "'('")
    }
    var values: [String] = []
    if next == .symbol(")") {
      position += 1
      return [""]
    }
    while true {
      switch next {
      case .identifier(let value):
        position += 1
        values.append(value)
      case .symbol(","), .symbol(")"): values.append("")
      default: throw unexpected(next, "',', ')' or identifier")
      }
      switch consume() {
      case .symbol(","): continue
      case .symbol(")"): return values
      case let token: throw unexpected(token, "',' or ')'")
      }
    }
  }

  private func unexpected(_ token: Token, _ expected: String) -> SelectorError {
    SelectorError(message: "found '\(token.text)', expected: \(expected)")
  }
}
