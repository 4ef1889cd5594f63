/// The `scale` subresource: the replica count of a workload, apart from everything else.
public enum Scale {
  public static let kind = GroupVersionKind(group: "autoscaling", version: "v1", kind: "Scale")

  /// The Scale of a Deployment, ReplicaSet or StatefulSet.
  public static func of(_ object: Value) -> Value {
    let metadata = object["metadata"]
    var scaleMetadata: Value = [:]
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
      scaleMetadata[key] = metadata[key]
    }
    var status: Value = ["replicas": .integer(object["status"]["replicas"].integer ?? 0)]
    if let selector = try? LabelSelector(object: object["spec"]["selector"]) {
      status["selector"] = Value(selector.description)
    }
    var spec = Value.Object()
    if let replicas = object["spec"]["replicas"].integer {
      spec.set("replicas", to: .integer(replicas))
    }
    return [
      "kind": Value(kind.kind), "apiVersion": Value(kind.apiVersion), "metadata": scaleMetadata,
      "spec": .object(spec), "status": status,
    ]
  }

  /// Sets an object's replicas to what a Scale asks for.
  ///
  /// - Throws: 422 if the count is negative, or the Scale is of another object.
  public static func apply(_ scale: Value, to object: inout Value) throws(StatusError) {
    let replicas = scale["spec"]["replicas"].integer ?? 0
    let name = object["metadata"]["name"].string ?? ""
    var errors: [FieldError] = []
    for key in ["name", "namespace", "uid"] {
      let given = scale["metadata"][key]
      if !given.isEmpty, given != object["metadata"][key] {
        errors.append(.invalid(FieldPath("metadata").child(key), given, "field is immutable"))
      }
    }
    if replicas < 0 {
      errors.append(
        .invalid(
          FieldPath("spec").child("replicas"), .integer(replicas),
          "must be greater than or equal to 0"))
    }
    if !errors.isEmpty { throw .invalid(kind, name: name, errors) }
    object["spec"]["replicas"] = .integer(replicas)
  }
}
