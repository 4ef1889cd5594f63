/// The types of API objects as data: which fields there are, of what type, and how lists and maps
/// merge.
///
/// Everything that must know an object's shape walks a `Value` beside its `TypeSchema`: strict
/// decoding, pruning, defaulting, strategic merge patches, OpenAPI. A catalog is immutable and
/// refers to its types by `TypeID`, so types may be recursive and walking costs no reference
/// counting. The built-in one is parsed once from a table that `Scripts/generate-schema` makes from
/// Kubernetes' published schema (some 370 types in under a millisecond); custom resources get
/// catalogs of their own.
///
/// ```swift
/// let pod = SchemaCatalog.kubernetes.schema(for: GroupVersionKind(group: "", version: "v1", kind: "Pod"))!
/// pod.field("spec")!.type       // .object(…PodSpec)
/// ```
public final class SchemaCatalog: Sendable {
  public let types: [TypeSchema]
  private let byName: [String: TypeID]
  private let byKind: [GroupVersionKind: TypeID]

  public init(types: [TypeSchema]) {
    self.types = types
    var byName: [String: TypeID] = [:]
    var byKind: [GroupVersionKind: TypeID] = [:]
    for (index, type) in types.enumerated() {
      byName[type.name] = TypeID(index: index)
      if let kind = type.kind { byKind[kind] = TypeID(index: index) }
    }
    self.byName = byName
    self.byKind = byKind
  }

  /// The field set of Kubernetes 1.32, and of metrics.k8s.io, which Kubernetes publishes apart.
  public static let kubernetes = SchemaCatalog(tables: [kubernetesTable, metricsTable])

  public subscript(id: TypeID) -> TypeSchema { types[id.index] }

  /// The type called `name`, as `core.v1.Container`.
  public func schema(named name: String) -> Schema? {
    byName[name].map { Schema(catalog: self, id: $0) }
  }

  public func schema(for kind: GroupVersionKind) -> Schema? {
    byKind[kind].map { Schema(catalog: self, id: $0) }
  }
}

/// A type's place in its catalog.
public struct TypeID: Sendable, Hashable {
  let index: Int
}

/// A type together with the catalog that explains what it refers to.
public struct Schema: Sendable {
  public let catalog: SchemaCatalog
  public let id: TypeID

  public var type: TypeSchema { catalog[id] }

  public func field(_ name: String) -> FieldSchema? { type.field(name) }

  /// The schema of objects in `type`: its own, or its elements'.
  public func nested(_ type: FieldType) -> Schema? {
    switch type {
    case .object(let id): Schema(catalog: catalog, id: id)
    case .array(let element), .map(let element): nested(element)
    default: nil
    }
  }
}

/// A type with named fields.
public struct TypeSchema: Sendable {
  /// The published name without its common prefix, as `core.v1.Container`.
  public let name: String
  /// Set for types that are whole objects.
  public let kind: GroupVersionKind?
  /// In the order of the published schema.
  public let fields: [FieldSchema]
  /// The object is replaced as a whole by server-side apply, not merged field by field.
  public let isAtomic: Bool
  private let index: [String: Int]
  /// By number in protobuf: of the type's own fields, and (in the upper half) of embedded ones.
  private let numbers: [UInt64: Int]
  private let embedding: Set<UInt32>

  public init(
    name: String, kind: GroupVersionKind? = nil, fields: [FieldSchema], isAtomic: Bool = false
  ) {
    self.name = name
    self.kind = kind
    self.fields = fields
    self.isAtomic = isAtomic
    index = Dictionary(
      fields.enumerated().map { ($1.name, $0) }, uniquingKeysWith: { first, _ in first })
    var numbers: [UInt64: Int] = [:]
    var embedding: Set<UInt32> = []
    for (index, field) in fields.enumerated() {
      switch field.numbers.count {
      case 1: numbers[UInt64(field.numbers[0])] = index
      case 2:
        numbers[UInt64(field.numbers[0]) << 32 | UInt64(field.numbers[1])] = index
        embedding.insert(field.numbers[0])
      default: break
      }
    }
    self.numbers = numbers
    self.embedding = embedding
  }

  /// The field with a number in protobuf, of the type's own message or of one that is embedded in it.
  func field(number: UInt32, in outer: UInt32?) -> FieldSchema? {
    numbers[UInt64(outer ?? 0) << 32 | UInt64(number)].map { fields[$0] }
  }

  /// Whether the field with this number holds a message whose fields are the object's own in JSON.
  func embeds(_ number: UInt32) -> Bool { embedding.contains(number) }

  public func field(_ name: String) -> FieldSchema? { index[name].map { fields[$0] } }

  /// The name in Go, without its package, as `Container`.
  public var goName: String {
    name.lastIndex(of: ".").map { String(name[name.index(after: $0)...]) } ?? name
  }
}

/// The type of a field's value.
public indirect enum FieldType: Sendable, Equatable {
  case string
  case bool
  case int32
  case int64
  case double
  /// Base64 text.
  case bytes
  /// RFC 3339 with seconds.
  case time
  /// RFC 3339 with microseconds.
  case microTime
  /// A resource amount as `Quantity` reads it.
  case quantity
  case intOrString
  /// Any JSON.
  case any
  case object(TypeID)
  case array(FieldType)
  case map(FieldType)
}

public struct FieldSchema: Sendable {
  public enum ListType: Sendable { case atomic, set, map }

  public let name: String
  public let type: FieldType
  public let isRequired: Bool
  /// How server-side apply sees a list; atomic where the schema doesn't say.
  public let listType: ListType
  /// The fields that identify an element of a list of type map.
  public let mapKeys: [String]
  /// A map or object that is replaced as a whole by server-side apply.
  public let isAtomic: Bool
  /// The field that identifies an element in a strategic merge patch.
  public let mergeKey: String?
  /// Strategic merge: a list is merged instead of replaced.
  public let mergesList: Bool
  /// Strategic merge: keys that the patch doesn't name in `$retainKeys` are dropped.
  public let retainsKeys: Bool
  /// The number in protobuf; two for a field of an embedded message: that message's, and its own there. Empty
  /// where there is none.
  public let numbers: [UInt32]

  public init(
    name: String, type: FieldType, isRequired: Bool = false, listType: ListType = .atomic,
    mapKeys: [String] = [], isAtomic: Bool = false, mergeKey: String? = nil,
    mergesList: Bool = false, retainsKeys: Bool = false, numbers: [UInt32] = []
  ) {
    self.name = name
    self.type = type
    self.isRequired = isRequired
    self.listType = listType
    self.mapKeys = mapKeys
    self.isAtomic = isAtomic
    self.mergeKey = mergeKey
    self.mergesList = mergesList
    self.retainsKeys = retainsKeys
    self.numbers = numbers
  }
}
