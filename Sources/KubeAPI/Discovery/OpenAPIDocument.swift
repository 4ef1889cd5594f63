/// OpenAPI v3 documents, one for each group version, made from the schemas.
///
/// kubectl reads them for three things: to explain fields, to merge (`apply` takes the merge keys
/// from `x-kubernetes-patch-merge-key`), and to learn what the server can do: it leaves validation
/// to the server only if the PATCH operation of the kind lists the query parameter
/// `fieldValidation`, and merges by this document only if the operation takes strategic merge
/// patches. Operations are found by `x-kubernetes-group-version-kind`.
public struct OpenAPIDocument: Sendable {
  private let scheme: Scheme
  private let patchKinds: [PatchKind]

  /// - Parameter patchKinds: what PATCH takes.
  public init(_ scheme: Scheme, patchKinds: [PatchKind] = [.json, .merge, .strategic]) {
    self.scheme = scheme
    self.patchKinds = patchKinds
  }

  /// The name of a group version's document: `api/v1`, `apis/apps/v1`.
  public static func name(of groupVersion: GroupVersion) -> String {
    groupVersion.group.isEmpty
      ? "api/\(groupVersion.version)" : "apis/\(groupVersion.group)/\(groupVersion.version)"
  }

  /// `/openapi/v3`: where the documents are.
  ///
  /// - Parameter hash: the content's hash for each name, as `ContentHash` gives it.
  public func index(hash: (GroupVersion) -> String) -> Value {
    var paths = Value.Object()
    for groupVersion in scheme.groupVersions {
      let name = OpenAPIDocument.name(of: groupVersion)
      paths.set(
        name, to: ["serverRelativeURL": "/openapi/v3/\(name)?hash=\(hash(groupVersion))"])
    }
    return ["paths": .object(paths)]
  }

  /// The document of one group version, or nil if there is none.
  public func document(_ groupVersion: GroupVersion, version: String = "v1.32.0") -> Value? {
    guard scheme.groupVersions.contains(groupVersion) else { return nil }
    var schemas = OpenAPISchemas(scheme: scheme)
    var paths = Value.Object()
    for resource in scheme.resources(in: groupVersion) {
      for (path, item) in pathItems(of: resource, &schemas) { paths.set(path, to: item) }
    }
    for name in ["meta.v1.Status", "meta.v1.DeleteOptions", "meta.v1.WatchEvent"] {
      if let schema = SchemaCatalog.kubernetes.schema(named: name) { _ = schemas.reference(schema) }
    }
    return [
      "openapi": "3.0.0", "info": ["title": "Kubernetes", "version": Value(version)],
      "paths": .object(paths), "components": ["schemas": .object(schemas.finish())],
    ]
  }

  // MARK: Paths

  private func pathItems(
    of resource: ResourceDefinition, _ schemas: inout OpenAPISchemas
  ) -> [(String, Value)] {
    let root = "/" + OpenAPIDocument.name(of: resource.groupVersion)
    let collection =
      root + (resource.isNamespaced ? "/namespaces/{namespace}/" : "/") + resource.plural
    let object = schemas.reference(resource.schema)
    let list = schemas.listReference(resource)
    var items: [(String, Value)] = []

    var collectionItem = Value.Object()
    var objectItem = Value.Object()
    for verb in resource.verbs {
      let method: String
      switch verb {
      case "list": method = "get"
      case "create": method = "post"
      case "deletecollection": method = "delete"
      case "get": method = "get"
      case "update": method = "put"
      case "patch": method = "patch"
      case "delete": method = "delete"
      default: continue
      }
      let isOnCollection = ["list", "create", "deletecollection"].contains(verb)
      let operation = operation(
        verb, resource.kind, subresource: nil, body: object,
        answer: verb == "list" ? list : verb.hasPrefix("delete") ? schemas.status : object, &schemas
      )
      if isOnCollection {
        collectionItem.set(method, to: operation)
      } else {
        objectItem.set(method, to: operation)
      }
    }
    let namespace = resource.isNamespaced ? [parameter("namespace", inPath: true)] : []
    collectionItem.set("parameters", to: .array(namespace + [parameter("pretty")]))
    objectItem.set(
      "parameters",
      to: .array([parameter("name", inPath: true)] + namespace + [parameter("pretty")])
    )
    items.append((collection, .object(collectionItem)))
    items.append((collection + "/{name}", .object(objectItem)))
    if resource.isNamespaced {
      let all = operation(
        "list", resource.kind, subresource: nil, body: object, answer: list, &schemas)
      items.append(
        ("\(root)/\(resource.plural)", ["get": all, "parameters": [parameter("pretty")]]))
    }
    for subresource in resource.subresources {
      var item = Value.Object()
      let body =
        SchemaCatalog.kubernetes.schema(for: subresource.kind).map { schemas.reference($0) }
        ?? ["type": "string"]
      for verb in subresource.verbs {
        guard
          let method = ["get": "get", "update": "put", "patch": "patch", "create": "post"][verb]
        else { continue }
        item.set(
          method,
          to: operation(
            verb, subresource.kind, subresource: subresource.name, body: body, answer: body,
            &schemas))
      }
      item.set(
        "parameters",
        to: .array([parameter("name", inPath: true)] + namespace + [parameter("pretty")]))
      items.append((collection + "/{name}/" + subresource.name, .object(item)))
    }
    return items
  }

  private func operation(
    _ verb: String, _ kind: GroupVersionKind, subresource: String?, body: Value, answer: Value,
    _ schemas: inout OpenAPISchemas
  ) -> Value {
    var value: Value = [
      "description": Value(
        "\(verb) \(kind.kind)" + (subresource.map { " by way of \($0)" } ?? ""))
    ]
    var names: [String] = []
    switch verb {
    case "create", "update": names = ["dryRun", "fieldManager", "fieldValidation"]
    case "patch": names = ["dryRun", "fieldManager", "fieldValidation", "force"]
    case "list", "deletecollection":
      names = [
        "allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit",
        "resourceVersion", "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds", "watch",
      ]
    case "delete":
      names = ["dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"]
    default: break
    }
    if !names.isEmpty { value["parameters"] = .array(names.map { parameter($0) }) }
    switch verb {
    case "create", "update":
      value["requestBody"] = ["content": ["*/*": ["schema": body]], "required": true]
    case "patch":
      var content = Value.Object()
      for kind in patchKinds { content.set(kind.rawValue, to: ["schema": schemas.patch]) }
      value["requestBody"] = ["content": .object(content), "required": true]
    case "delete", "deletecollection":
      value["requestBody"] = ["content": ["*/*": ["schema": schemas.deleteOptions]]]
    default: break
    }
    let content: Value = ["application/json": ["schema": answer]]
    value["responses"] = ["200": ["description": "OK", "content": content]]
    if verb == "create" {
      value["responses"]["201"] = ["description": "Created", "content": content]
    }
    if verb == "update" || verb == "create" || verb == "patch" || verb.hasPrefix("delete")
      || verb == "get" || verb == "list"
    {
      let action = ["create": "post", "update": "put"][verb] ?? verb
      value["x-kubernetes-action"] = Value(action)
    }
    value["x-kubernetes-group-version-kind"] = OpenAPISchemas.kindExtension(kind)
    return value
  }

  private static let parameterTypes = [
    "allowWatchBookmarks": "boolean", "sendInitialEvents": "boolean", "watch": "boolean",
    "force": "boolean", "orphanDependents": "boolean", "limit": "integer",
    "timeoutSeconds": "integer", "gracePeriodSeconds": "integer",
  ]

  private func parameter(_ name: String, inPath: Bool = false) -> Value {
    var value: Value = ["name": Value(name), "in": inPath ? "path" : "query"]
    if inPath { value["required"] = true }
    value["schema"] = [
      "type": Value(OpenAPIDocument.parameterTypes[name] ?? "string"), "uniqueItems": true,
    ]
    return value
  }
}
