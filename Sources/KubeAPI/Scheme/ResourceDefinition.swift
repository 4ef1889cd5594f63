/// One resource of the API, declared: what it is called, where it is stored, how it behaves.
///
/// A kind is one declaration. Routing, discovery, OpenAPI, storage keys, printing and the write
/// pipeline all read it and have no switch over kinds of their own.
public struct ResourceDefinition: Sendable {
  /// The version served here.
  public var kind: GroupVersionKind
  /// The plural, as in URLs.
  public var plural: String
  public var singular: String
  public var shortNames: [String]
  /// `all` makes `kubectl get all` list it.
  public var categories: [String]
  public var isNamespaced: Bool
  /// The place below `/registry/`; differs from the plural for historical reasons in places
  /// (`minions`, `services/specs`).
  public var storagePrefix: String
  /// The form in which objects are stored: `kind` for most, v1 for events.k8s.io's Event.
  public var storage: StorageForm
  public var verbs: [String]
  public var subresources: [Subresource]
  public var schema: Schema
  /// The fields that field selectors may name besides `metadata.name` and `metadata.namespace`.
  public var selectableFields: [SelectableField]
  public var printer: TablePrinter
  public var strategy: any ResourceStrategy
  /// False for kinds that are only questions to the server.
  public var isStored: Bool

  public init(
    kind: GroupVersionKind, plural: String, singular: String? = nil, shortNames: [String] = [],
    categories: [String] = [], isNamespaced: Bool, storagePrefix: String? = nil,
    storage: StorageForm? = nil, verbs: [String] = ResourceDefinition.allVerbs,
    subresources: [Subresource] = [], schema: Schema, selectableFields: [SelectableField] = [],
    printer: TablePrinter = .standard, strategy: any ResourceStrategy = StandardStrategy(),
    isStored: Bool = true
  ) {
    self.kind = kind
    self.plural = plural
    self.singular = singular ?? kind.kind.lowercased()
    self.shortNames = shortNames
    self.categories = categories
    self.isNamespaced = isNamespaced
    self.storagePrefix = storagePrefix ?? plural
    self.storage = storage ?? StorageForm(kind: kind)
    self.verbs = verbs
    self.subresources = subresources
    self.schema = schema
    self.selectableFields = selectableFields
    self.printer = printer
    self.strategy = strategy
    self.isStored = isStored
  }

  /// In the order in which discovery lists them.
  public static let allVerbs = [
    "create", "delete", "deletecollection", "get", "list", "patch", "update", "watch",
  ]

  public var groupVersion: GroupVersion { kind.groupVersion }
  public var groupResource: GroupResource { GroupResource(group: kind.group, resource: plural) }
  public var listKind: String { kind.kind + "List" }

  /// The key of one object in the store.
  public func storageKey(namespace: String, name: String) -> String {
    storageKeyPrefix(namespace: namespace) + name
  }

  /// The prefix of all keys of this resource, or of those in one namespace; it ends in `/`.
  public func storageKeyPrefix(namespace: String = "") -> String {
    isNamespaced && !namespace.isEmpty
      ? "/registry/\(storagePrefix)/\(namespace)/" : "/registry/\(storagePrefix)/"
  }

  public func subresource(_ name: String) -> Subresource? {
    subresources.first { $0.name == name }
  }

  public var hasStatus: Bool { subresource("status") != nil }
}

/// A stored form and the way to it and back.
public struct StorageForm: Sendable {
  public let kind: GroupVersionKind
  /// From the served form to the stored one; nil where they are the same.
  let encode: (@Sendable (Value) -> Value)?
  let decode: (@Sendable (Value) -> Value)?

  public init(
    kind: GroupVersionKind, encode: (@Sendable (Value) -> Value)? = nil,
    decode: (@Sendable (Value) -> Value)? = nil
  ) {
    self.kind = kind
    self.encode = encode
    self.decode = decode
  }

  public var isIdentity: Bool { encode == nil && decode == nil }
  /// The stored form of a served object.
  public func stored(_ object: Value) -> Value { encode?(object) ?? object }
  /// The served form of a stored object.
  public func served(_ object: Value) -> Value { decode?(object) ?? object }
}

/// A part of a resource with a URL of its own.
public struct Subresource: Sendable {
  public let name: String
  /// What its requests and answers are; nil for streams.
  public let kind: GroupVersionKind
  public let verbs: [String]

  public init(name: String, kind: GroupVersionKind, verbs: [String]) {
    self.name = name
    self.kind = kind
    self.verbs = verbs
  }
}

/// A field that a field selector may name.
public struct SelectableField: Sendable {
  public let name: String
  private let read: @Sendable (Value) -> String

  public init(_ name: String, read: @escaping @Sendable (Value) -> String) {
    self.name = name
    self.read = read
  }

  /// The field at the path that the name spells.
  public init(_ name: String, default: String = "") {
    self.name = name
    let path = name.split(separator: ".").map(String.init)
    read = { object in
      switch object.find(path: path) {
      case .string(let text)?: text
      case .integer(let number)?: String(number)
      case .bool(let flag)?: flag ? "true" : "false"
      default: `default`
      }
    }
  }

  public func value(in object: Value) -> String { read(object) }
}
