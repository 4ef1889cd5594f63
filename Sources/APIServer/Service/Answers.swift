import HTTPServer
import KubeAPI
import KubeYAML
import Primitives

/// Builds answers: one object, a list, a Status, in the form that the client asked for.
struct Answers: Sendable {
  let format: AnswerFormat
  let include: TablePrinter.IncludedObject
  /// Ages in tables are counted when a row is written: a watch lives long.
  let now: @Sendable () -> Timestamp

  init(
    _ request: HTTPRequest, now: @escaping @Sendable () -> Timestamp, allowsForms: Bool = true
  ) throws(StatusError) {
    format = try AnswerFormat.negotiate(request.fields, allowsForms: allowsForms)
    self.now = now
    switch request.target.value(of: "includeObject") {
    case nil, "": include = .metadata
    case let text?:
      guard let parsed = TablePrinter.IncludedObject(rawValue: text) else {
        throw .badRequest("includeObject must be one of None, Metadata, Object")
      }
      include = parsed
    }
  }

  /// One object as the store holds it.
  func object(
    _ object: StoredObject, of resource: ResourceDefinition, status: Int = 200
  ) -> HTTPResponse {
    if format == AnswerFormat(), resource.storage.isIdentity {
      return bytes(object.json, status: status)
    }
    return value(resource.storage.served(object.value), of: resource, status: status)
  }

  /// One object in its served form.
  func value(
    _ value: Value, of resource: ResourceDefinition, status: Int = 200
  ) -> HTTPResponse {
    encode(convert(value, of: resource, hasColumns: true), status: status)
  }

  /// Something that has one form only: Scale, Status.
  func plain(_ value: Value, status: Int = 200) -> HTTPResponse { encode(value, status: status) }

  /// A list.
  func list(
    _ objects: [StoredObject], of resource: ResourceDefinition, metadata: Value
  ) -> HTTPResponse {
    if format == AnswerFormat(), resource.storage.isIdentity {
      return bytes(listJSON(objects, of: resource, metadata: metadata), status: 200)
    }
    return list(
      objects.map { resource.storage.served($0.value) }, of: resource, metadata: metadata)
  }

  /// A list of objects in their served form.
  func list(
    _ values: [Value], of resource: ResourceDefinition, metadata: Value
  ) -> HTTPResponse {
    switch format.form {
    case .object:
      return encode(
        [
          "kind": Value(resource.listKind), "apiVersion": Value(resource.kind.apiVersion),
          "metadata": metadata, "items": .array(values),
        ], status: 200)
    case .partialMetadata:
      return encode(
        [
          "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
          "metadata": metadata, "items": .array(values.map(\.partialMetadata)),
        ], status: 200)
    case .table(let version):
      var table = resource.printer.table(
        values, listMetadata: metadata, include: include, now: now())
      table["apiVersion"] = Value("meta.k8s.io/\(version)")
      return encode(table, status: 200)
    }
  }

  /// A list's JSON, made of the objects' own bytes.
  private func listJSON(
    _ objects: [StoredObject], of resource: ResourceDefinition, metadata: Value
  ) -> [UInt8] {
    let head: Value = [
      "kind": Value(resource.listKind), "apiVersion": Value(resource.kind.apiVersion),
      "metadata": metadata,
    ]
    var bytes: [UInt8] = []
    bytes.reserveCapacity(objects.reduce(256) { $0 + $1.json.count + 1 })
    head.encode(into: &bytes)
    bytes.removeLast()
    bytes.append(contentsOf: ",\"items\":[".utf8)
    for (index, object) in objects.enumerated() {
      if index > 0 { bytes.append(UInt8(ascii: ",")) }
      bytes.append(contentsOf: object.json)
    }
    bytes.append(contentsOf: "]}".utf8)
    return bytes
  }

  /// An object's bytes for a watch event.
  func eventObject(
    _ object: StoredObject, of resource: ResourceDefinition, hasColumns: Bool
  ) -> [UInt8] {
    if format.form == .object, resource.storage.isIdentity { return object.json }
    return convert(
      resource.storage.served(object.value), of: resource, hasColumns: hasColumns
    ).json
  }

  private func convert(
    _ value: Value, of resource: ResourceDefinition, hasColumns: Bool
  ) -> Value {
    switch format.form {
    case .object: return value
    case .partialMetadata: return value.partialMetadata
    case .table(let version):
      var table = resource.printer.table(
        [value], listMetadata: ["resourceVersion": value["metadata"]["resourceVersion"]],
        include: include, now: now(), hasColumns: hasColumns)
      table["apiVersion"] = Value("meta.k8s.io/\(version)")
      return table
    }
  }

  private func encode(_ value: Value, status: Int) -> HTTPResponse {
    switch format.encoding {
    case .json: bytes(value.json, status: status)
    case .yaml: bytes(Array(YAML.text(of: value).utf8), status: status)
    }
  }

  private func bytes(_ bytes: [UInt8], status: Int) -> HTTPResponse {
    HTTPResponse(
      status: status, fields: ["Content-Type": format.contentType], body: .bytes(bytes))
  }
}

extension HTTPResponse {
  /// An error, as Kubernetes' clients read it.
  init(_ error: StatusError) {
    self.init(
      status: error.code, fields: ["Content-Type": "application/json"],
      body: .bytes(error.value.json))
    if let seconds = error.details?.retryAfterSeconds, seconds > 0 {
      fields["Retry-After"] = String(seconds)
    }
    if error.code == 401 { fields["WWW-Authenticate"] = "Bearer realm=\"martlet\"" }
  }

  static func json(_ value: Value, status: Int = 200) -> HTTPResponse {
    HTTPResponse(
      status: status, fields: ["Content-Type": "application/json"], body: .bytes(value.json))
  }
}
