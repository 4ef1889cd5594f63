/// `nodeSelectorTerms`: any term, all of its expressions.
public enum NodeSelector {
  /// Whether a node matches a node selector; null matches every node.
  public static func matches(_ selector: Value, _ node: NodeView) -> Bool {
    guard !selector.isNull else { return true }
    return selector["nodeSelectorTerms"].elements.contains { term in
      let expressions = term["matchExpressions"].elements
      let fields = term["matchFields"].elements
      // An empty term matches nothing.
      guard !expressions.isEmpty || !fields.isEmpty else { return false }
      return expressions.allSatisfy { matches($0, node.labels[$0["key"].string ?? ""].string) }
        && fields.allSatisfy {
          matches($0, $0["key"].string == "metadata.name" ? node.name : nil)
        }
    }
  }

  private static func matches(_ requirement: Value, _ value: String?) -> Bool {
    let values = requirement["values"].strings
    switch requirement["operator"].string {
    case "In": return value.map(values.contains) ?? false
    case "NotIn": return !(value.map(values.contains) ?? false)
    case "Exists": return value != nil
    case "DoesNotExist": return value == nil
    case "Gt", "Lt":
      guard let value, let own = Int64(value), let bound = values.first.flatMap({ Int64($0) })
      else { return false }
      return requirement["operator"] == "Gt" ? own > bound : own < bound
    default: return false
    }
  }

  /// Whether a pod's `nodeSelector` and its required node affinity allow a node.
  public static func allows(_ node: NodeView, spec: Value) -> Bool {
    LabelSelector(labels: spec["nodeSelector"]).matches(node.labels)
      && matches(
        spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"], node)
  }

  /// Whether a term of a preference matches. An empty one matches nothing.
  public static func matches(term: Value, _ node: NodeView) -> Bool {
    matches(["nodeSelectorTerms": [term]], node)
  }
}
