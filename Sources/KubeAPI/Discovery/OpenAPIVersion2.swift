/// The OpenAPI v2 document (Swagger 2.0) of all group versions, made of their v3 documents.
///
/// Clients before Kubernetes 1.24 know nothing else: they explain, validate and merge by it. What v2 can't say is
/// said as Kubernetes says it: a quantity is a string, a number-or-string is a string with a format, and a property
/// that refers to a type has its description beside the reference.
/// Source: OpenAPI Specification 2.0; Kubernetes, "The Kubernetes API", OpenAPI V2.
public struct OpenAPIVersion2: Sendable {
  private let scheme: Scheme
  private let openAPI: OpenAPIDocument

  /// - Parameter patchKinds: what PATCH takes.
  public init(_ scheme: Scheme, patchKinds: [PatchKind]) {
    self.scheme = scheme
    openAPI = OpenAPIDocument(scheme, patchKinds: patchKinds)
  }

  /// - Parameter version: the server's, for `info`.
  public func document(version: String) -> Value {
    var paths = Value.Object()
    var definitions: [String: Value] = [:]
    for groupVersion in scheme.groupVersions {
      guard let document = openAPI.document(groupVersion, version: version) else { continue }
      for item in document["paths"].members { paths.set(item.key, to: pathItem(item.value)) }
      for schema in document["components"]["schemas"].members
      where definitions[schema.key] == nil {
        definitions[schema.key] = self.schema(schema.value)
      }
    }
    return [
      "swagger": "2.0", "info": ["title": "Kubernetes", "version": Value(version)],
      "paths": .object(paths),
      "definitions": .object(
        Value.Object(definitions.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })),
    ]
  }

  // MARK: Operations

  private func pathItem(_ item: Value) -> Value {
    var result = Value.Object()
    for member in item.members {
      result.set(
        member.key,
        to: member.key == "parameters" ? parameters(member.value) : operation(member.value))
    }
    return .object(result)
  }

  private func operation(_ operation: Value) -> Value {
    var result: Value = [:]
    var taken = operation["parameters"].elements.map(parameter)
    for member in operation.members {
      switch member.key {
      case "parameters": break
      case "requestBody":
        let contents = member.value["content"].members
        result["consumes"] = Value(contents.map(\.key))
        var body: Value = ["name": "body", "in": "body"]
        if member.value["required"] == true { body["required"] = true }
        body["schema"] = schema(contents.first?.value["schema"] ?? [:])
        taken.append(body)
      case "responses":
        for response in member.value.members {
          var value = Value.Object()
          value.set("description", to: response.value["description"])
          if let content = response.value["content"].members.first {
            value.set("schema", to: schema(content.value["schema"]))
            result["produces"] = Value(response.value["content"].members.map(\.key))
          }
          result["responses"][response.key] = .object(value)
        }
      default: result[member.key] = member.value
      }
    }
    if !taken.isEmpty { result["parameters"] = .array(taken) }
    return result
  }

  private func parameters(_ list: Value) -> Value { .array(list.elements.map(parameter)) }

  /// A parameter's type stands beside its name.
  private func parameter(_ parameter: Value) -> Value {
    var result = Value.Object()
    for member in parameter.members where member.key != "schema" {
      result.set(member.key, to: member.value)
    }
    for member in parameter["schema"].members { result.set(member.key, to: member.value) }
    return .object(result)
  }

  // MARK: Schemas

  private static let newRoot = "#/components/schemas/"
  private static let oldRoot = "#/definitions/"

  private func schema(_ schema: Value) -> Value {
    var result = Value.Object()
    for member in schema.members {
      switch member.key {
      case "$ref": result.set("$ref", to: reference(member.value))
      case "allOf":
        // One reference, wrapped so that something may stand beside it.
        result.set("$ref", to: reference(member.value[0]["$ref"]))
      case "oneOf": result.set("type", to: "string")
      case "properties":
        var properties = Value.Object()
        for property in member.value.members {
          properties.set(property.key, to: self.schema(property.value))
        }
        result.set("properties", to: .object(properties))
      case "items", "additionalProperties": result.set(member.key, to: self.schema(member.value))
      default: result.set(member.key, to: member.value)
      }
    }
    return .object(result)
  }

  private func reference(_ reference: Value) -> Value {
    let text = reference.string ?? ""
    guard text.hasPrefix(Self.newRoot) else { return reference }
    return Value(Self.oldRoot + text.dropFirst(Self.newRoot.count))
  }
}
