import KubeAPI

/// The pod's own fields, as the downward API names them.
enum PodFields {
  /// The text of a field; nil for paths that the downward API doesn't have.
  static func value(_ path: String, of pod: Value) -> String? {
    let metadata = pod["metadata"]
    switch path {
    case "metadata.name": return metadata["name"].string ?? ""
    case "metadata.namespace": return metadata["namespace"].string ?? ""
    case "metadata.uid": return metadata["uid"].string ?? ""
    case "spec.nodeName": return pod["spec"]["nodeName"].string ?? ""
    case "spec.serviceAccountName": return pod["spec"]["serviceAccountName"].string ?? ""
    case "status.hostIP": return pod["status"]["hostIP"].string ?? ""
    case "status.podIP": return pod["status"]["podIP"].string ?? ""
    case "status.hostIPs", "status.podIPs":
      let name = String(path.dropFirst("status.".count))
      return pod["status"][name].elements.compactMap { $0["ip"].string }.joined(separator: ",")
    case "metadata.labels": return lines(metadata["labels"])
    case "metadata.annotations": return lines(metadata["annotations"])
    default:
      for (prefix, key) in [
        ("metadata.labels['", "labels"), ("metadata.annotations['", "annotations"),
      ]
      where path.hasPrefix(prefix) && path.hasSuffix("']") {
        let name = path.dropFirst(prefix.count).dropLast(2)
        return metadata[key][String(name)].string ?? ""
      }
      return nil
    }
  }

  /// `key="value"` a line, sorted, the value quoted.
  private static func lines(_ value: Value) -> String {
    value.members.sorted { $0.key < $1.key }
      .map { "\($0.key)=\(Value.string($0.value.string ?? "").jsonString)" }
      .joined(separator: "\n")
  }
}
