/// A condition on fields of an object: `metadata.name=web,status.phase!=Running`.
///
/// Only fields that a resource declares may be named; metadata.name and metadata.namespace always.
public struct FieldSelector: Sendable, Equatable {
  public struct Requirement: Sendable, Equatable {
    public let field: String
    public let value: String
    public let isEqual: Bool
  }

  public let requirements: [Requirement]

  public static let everything = FieldSelector(requirements: [])

  private init(requirements: [Requirement]) {
    self.requirements = requirements
  }

  /// Reads `a=b`, `a==b` and `a!=b` joined by commas; `\,`, `\=` and `\\` stand for themselves.
  public init(_ text: String) throws(SelectorError) {
    var requirements: [Requirement] = []
    for term in FieldSelector.terms(of: text) where !term.isEmpty {
      guard let requirement = FieldSelector.requirement(term) else {
        throw SelectorError(message: "invalid selector: '\(text)'; can't understand '\(term)'")
      }
      requirements.append(requirement)
    }
    self.requirements = requirements
  }

  private static func terms(of text: String) -> [String] {
    var terms = [""]
    var isEscaped = false
    for character in text {
      if isEscaped {
        terms[terms.count - 1] += "\\\(character)"
        isEscaped = false
      } else if character == "\\" {
        isEscaped = true
      } else if character == "," {
        terms.append("")
      } else {
        terms[terms.count - 1].append(character)
      }
    }
    if isEscaped { terms[terms.count - 1].append("\\") }
    return terms
  }

  private static func requirement(_ term: String) -> Requirement? {
    var rest = term[...]
    var field = ""
    while let character = rest.first {
      if character == "=" {
        rest.removeFirst()
        if rest.first == "=" { rest.removeFirst() }
        return unescaped(rest).map { Requirement(field: field, value: $0, isEqual: true) }
      }
      if rest.hasPrefix("!=") {
        rest.removeFirst(2)
        return unescaped(rest).map { Requirement(field: field, value: $0, isEqual: false) }
      }
      field.append(character)
      rest.removeFirst()
    }
    return nil
  }

  /// Only separators may be escaped; nil for what isn't a value.
  private static func unescaped(_ text: Substring) -> String? {
    var result = ""
    var isEscaped = false
    for character in text {
      if isEscaped {
        guard character == "\\" || character == "," || character == "=" else { return nil }
        result.append(character)
        isEscaped = false
      } else if character == "\\" {
        isEscaped = true
      } else if character == "=" {
        return nil
      } else {
        result.append(character)
      }
    }
    return isEscaped ? nil : result
  }

  public var isEverything: Bool { requirements.isEmpty }

  /// The value that `field` must have, if the selector demands one.
  public func exactValue(of field: String) -> String? {
    requirements.first { $0.field == field && $0.isEqual }?.value
  }

  /// Checks that `resource` can be selected by these fields.
  ///
  /// - Throws: what to answer with 400, as `field label not supported: spec.foo`.
  public func check(for resource: ResourceDefinition) throws(SelectorError) {
    for requirement in requirements where resource.selectableField(requirement.field) == nil {
      throw SelectorError(
        message: resource.selectableFields.isEmpty
          ? "\(quoted(requirement.field)) is not a known field selector: only \"metadata.name\", "
            + "\"metadata.namespace\""
          : "field label not supported: \(requirement.field)")
    }
  }

  /// Whether an object of `resource` has the fields; fields that can't be selected match nothing.
  public func matches(_ object: Value, of resource: ResourceDefinition) -> Bool {
    requirements.allSatisfy { requirement in
      guard let field = resource.selectableField(requirement.field) else { return false }
      return (field.value(in: object) == requirement.value) == requirement.isEqual
    }
  }
}

extension FieldSelector: CustomStringConvertible {
  public var description: String {
    requirements.map { requirement in
      let value = requirement.value.reduce(into: "") { text, character in
        if character == "\\" || character == "," || character == "=" { text += "\\" }
        text.append(character)
      }
      return "\(requirement.field)\(requirement.isEqual ? "=" : "!=")\(value)"
    }.joined(separator: ",")
  }
}

extension ResourceDefinition {
  private static let nameField = SelectableField("metadata.name")
  private static let namespaceField = SelectableField("metadata.namespace")

  public func selectableField(_ name: String) -> SelectableField? {
    switch name {
    case "metadata.name": ResourceDefinition.nameField
    case "metadata.namespace": ResourceDefinition.namespaceField
    default: selectableFields.first { $0.name == name }
    }
  }
}
