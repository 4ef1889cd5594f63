/// Collects the schemas that a document refers to, each once.
struct OpenAPISchemas {
  private let scheme: Scheme
  private var pending: [(String, Schema)] = []
  private var known: Set<String> = []
  private var extra = Value.Object()

  init(scheme: Scheme) {
    self.scheme = scheme
  }

  private static let root = "#/components/schemas/"
  private static let machinery = "io.k8s.apimachinery.pkg."

  /// The published name of a type: the table keeps names without their common prefixes.
  static func fullName(_ name: String) -> String {
    name.hasPrefix("meta.v1.") ? "\(machinery)apis.\(name)" : "io.k8s.api.\(name)"
  }

  static func kindExtension(_ kind: GroupVersionKind) -> Value {
    ["group": Value(kind.group), "kind": Value(kind.kind), "version": Value(kind.version)]
  }

  /// A reference to `schema`, which will be part of the document.
  mutating func reference(_ schema: Schema) -> Value {
    let name = OpenAPISchemas.fullName(schema.type.name)
    if known.insert(name).inserted { pending.append((name, schema)) }
    return ["$ref": Value(OpenAPISchemas.root + name)]
  }

  private mutating func reference(_ name: String, _ definition: Value) -> Value {
    if known.insert(name).inserted { extra.set(name, to: definition) }
    return ["$ref": Value(OpenAPISchemas.root + name)]
  }

  mutating func listReference(_ resource: ResourceDefinition) -> Value {
    let kind = GroupVersionKind(resource.groupVersion, resource.listKind)
    if let schema = resource.schema.catalog.schema(for: kind) { return reference(schema) }
    return ["type": "object"]
  }

  private mutating func named(_ name: String) -> Value {
    SchemaCatalog.kubernetes.schema(named: name).map { reference($0) } ?? ["type": "object"]
  }

  var status: Value { mutating get { named("meta.v1.Status") } }
  var deleteOptions: Value { mutating get { named("meta.v1.DeleteOptions") } }
  var patch: Value {
    mutating get {
      reference(
        OpenAPISchemas.machinery + "apis.meta.v1.Patch",
        ["description": "The body of a PATCH request.", "type": "object"])
    }
  }

  /// Every schema that was referred to, sorted by name.
  mutating func finish() -> Value.Object {
    var schemas: [(String, Value)] = []
    while let (name, schema) = pending.popLast() {
      schemas.append((name, definition(schema)))
    }
    schemas += extra.members.map { ($0.key, $0.value) }
    return Value.Object(schemas.sorted { $0.0 < $1.0 })
  }

  // MARK: Definitions

  private mutating func definition(_ schema: Schema) -> Value {
    let type = schema.type
    var value: Value = [
      "description": Value(Descriptions.type(type)), "type": "object",
    ]
    let required = type.fields.filter(\.isRequired).map(\.name)
    if !required.isEmpty { value["required"] = Value(required) }
    var properties = Value.Object()
    for field in type.fields {
      properties.set(field.name, to: property(field, of: type, schema.catalog))
    }
    if !properties.isEmpty { value["properties"] = .object(properties) }
    if type.isAtomic { value["x-kubernetes-map-type"] = "atomic" }
    let kinds = kinds(of: type)
    if !kinds.isEmpty {
      value["x-kubernetes-group-version-kind"] = .array(kinds.map(OpenAPISchemas.kindExtension))
    }
    return value
  }

  /// Options and events belong to every group version, other objects to their own.
  private func kinds(of type: TypeSchema) -> [GroupVersionKind] {
    if let kind = type.kind { return [kind] }
    guard type.name == "meta.v1.DeleteOptions" || type.name == "meta.v1.WatchEvent" else {
      return []
    }
    return scheme.groupVersions.map { GroupVersionKind($0, type.goName) }
  }

  private mutating func property(
    _ field: FieldSchema, of type: TypeSchema, _ catalog: SchemaCatalog
  ) -> Value {
    var value = form(of: field.type, catalog)
    if value.has("$ref") { value = ["allOf": [value]] }
    if let description = Descriptions.field(field.name, of: type) {
      value["description"] = Value(description)
    }
    if field.isAtomic { value["x-kubernetes-map-type"] = "atomic" }
    if case .array = field.type {
      switch field.listType {
      case .atomic: value["x-kubernetes-list-type"] = "atomic"
      case .set: value["x-kubernetes-list-type"] = "set"
      case .map:
        value["x-kubernetes-list-type"] = "map"
        value["x-kubernetes-list-map-keys"] = Value(field.mapKeys)
      }
    }
    if let key = field.mergeKey { value["x-kubernetes-patch-merge-key"] = Value(key) }
    let strategies = (field.mergesList ? ["merge"] : []) + (field.retainsKeys ? ["retainKeys"] : [])
    if !strategies.isEmpty {
      value["x-kubernetes-patch-strategy"] = Value(strategies.joined(separator: ","))
    }
    return value
  }

  private mutating func form(of type: FieldType, _ catalog: SchemaCatalog) -> Value {
    switch type {
    case .string: return ["type": "string"]
    case .bool: return ["type": "boolean"]
    case .int32: return ["type": "integer", "format": "int32"]
    case .int64: return ["type": "integer", "format": "int64"]
    case .double: return ["type": "number", "format": "double"]
    case .bytes: return ["type": "string", "format": "byte"]
    case .any: return ["type": "object"]
    case .time, .microTime:
      return reference(
        OpenAPISchemas.machinery + "apis.meta.v1." + (type == .time ? "Time" : "MicroTime"),
        [
          "description": "A moment, in RFC 3339's form.", "type": "string", "format": "date-time",
        ])
    case .quantity:
      return reference(
        OpenAPISchemas.machinery + "api.resource.Quantity",
        [
          "description": "An amount with an optional suffix, as 500m or 1Gi.",
          "oneOf": [["type": "string"], ["type": "number"]],
        ])
    case .intOrString:
      return reference(
        OpenAPISchemas.machinery + "util.intstr.IntOrString",
        [
          "description": "A number, or a string such as a percentage or a name.",
          "format": "int-or-string", "oneOf": [["type": "integer"], ["type": "string"]],
        ])
    case .object(let id): return reference(Schema(catalog: catalog, id: id))
    case .array(let element):
      var items = form(of: element, catalog)
      if items.has("$ref") { items = ["allOf": [items]] }
      return ["type": "array", "items": items]
    case .map(let element):
      var items = form(of: element, catalog)
      if items.has("$ref") { items = ["allOf": [items]] }
      return ["type": "object", "additionalProperties": items]
    }
  }
}

/// One line, in our own words, for what people look up first.
enum Descriptions {
  private static let types: [String: String] = [
    "core.v1.Pod": "A group of containers that run together on one node.",
    "core.v1.Node": "A machine that runs pods.",
    "core.v1.Namespace": "A scope for names.",
    "core.v1.ConfigMap": "Configuration for pods, as keys and values.",
    "core.v1.Secret": "Confidential data for pods, as keys and values.",
    "core.v1.Service": "A stable address in front of pods that come and go.",
    "core.v1.ServiceAccount": "An identity for processes in pods.",
    "core.v1.Event": "A report of something that happened to an object.",
    "core.v1.Endpoints": "The addresses behind a service.",
    "core.v1.Container": "One program of a pod, with its image and its limits.",
    "core.v1.PodSpec": "How a pod should run.",
    "core.v1.PodStatus": "How a pod does.",
    "apps.v1.Deployment": "Keeps identical pods running and rolls out changes to them.",
    "apps.v1.ReplicaSet": "Keeps a number of identical pods running.",
    "apps.v1.DaemonSet": "Keeps a pod running on every node that matches.",
    "apps.v1.StatefulSet": "Keeps pods running that have names and storage of their own.",
    "batch.v1.Job": "Runs pods until enough of them succeed.",
    "batch.v1.CronJob": "Starts jobs by a schedule.",
    "coordination.v1.Lease": "A claim that its holder must renew.",
    "discovery.v1.EndpointSlice": "Some of the addresses behind a service.",
    "policy.v1.PodDisruptionBudget": "How many pods may be disrupted at once.",
    "scheduling.v1.PriorityClass": "A name for a pod's priority.",
    "meta.v1.ObjectMeta": "What every object has: name, labels, owners and the like.",
    "meta.v1.Status": "The outcome of a request that returns no object.",
  ]

  private static let fields: [String: String] = [
    "apiVersion": "The group and version of the kind.",
    "kind": "The kind of the object.",
    "metadata": "The object's metadata.",
    "spec": "What is wanted.",
    "status": "What is; written by the system.",
    "items": "The objects.",
  ]

  static func type(_ type: TypeSchema) -> String { types[type.name] ?? "\(type.goName)." }

  /// For the fields of whole objects only.
  static func field(_ name: String, of type: TypeSchema) -> String? {
    type.kind == nil ? nil : fields[name]
  }
}
