import Glibc
import KubeAPI

/// Content that comes from the API: config maps, secrets, the pod's own fields, tokens.
extension PodVolumes {
  struct Files {
    struct File {
      var content: [UInt8]
      var mode: mode_t
      /// The user that it belongs to; nil is root.
      var owner: UInt32?
    }
    /// By path relative to the volume.
    var byPath: [String: File] = [:]
    var bytes = 0
    /// A part could not be had and was left out.
    var isIncomplete = false

    mutating func add(
      _ path: String, _ content: [UInt8], _ mode: mode_t, owner: UInt32? = nil
    ) throws {
      let parts = path.split(separator: "/", omittingEmptySubsequences: false)
      guard !path.isEmpty, !path.hasPrefix("/"),
        !parts.contains(where: { $0.isEmpty || $0 == ".." }),
        !(parts.first ?? "").hasPrefix("..")
      else { throw PreparationError("\"\(path)\" is not a path inside the volume") }
      bytes += content.count
      guard bytes <= Limits.contentBytes else {
        throw PreparationError("more than \(Limits.contentBytes) bytes of content")
      }
      byPath[path] = File(content: content, mode: mode, owner: owner)
    }
  }

  func collect(
    _ pod: PodManifest, _ kind: String, _ source: Value, _ defaultMode: mode_t,
    _ files: inout Files
  ) async throws {
    switch kind {
    case "configMap", "secret":
      let isSecret = kind == "secret"
      let name = source["name"].string ?? source["secretName"].string ?? ""
      let isOptional = source["optional"].bool ?? false
      let object =
        isSecret
        ? try await api.secret(namespace: pod.namespace, name: name)
        : try await api.configMap(namespace: pod.namespace, name: name)
      guard let object else {
        if isOptional { return }
        throw PreparationError("\(isSecret ? "secret" : "configmap") \"\(name)\" not found")
      }
      let content = Self.content(of: object)
      let items = source["items"].elements
      guard !items.isEmpty else {
        for (key, bytes) in content { try files.add(key, bytes, defaultMode) }
        return
      }
      for item in items {
        let key = item["key"].string ?? ""
        guard let bytes = content.first(where: { $0.key == key })?.bytes else {
          if isOptional { continue }
          throw PreparationError(
            "references non-existent \(isSecret ? "secret" : "config") key: \(key)")
        }
        let mode = item["mode"].int.map { mode_t(truncatingIfNeeded: $0) & 0o777 } ?? defaultMode
        try files.add(item["path"].string ?? key, bytes, mode)
      }
    case "downwardAPI":
      for item in source["items"].elements {
        let mode = item["mode"].int.map { mode_t(truncatingIfNeeded: $0) & 0o777 } ?? defaultMode
        if item.has("resourceFieldRef") {
          let text = try ContainerPreparation.resourceField(item["resourceFieldRef"], pod, .null)
          try files.add(item["path"].string ?? "", Array(text.utf8), mode)
          continue
        }
        let path = item["fieldRef"]["fieldPath"].string ?? ""
        guard let text = PodFields.value(path, of: pod.object) else {
          throw PreparationError("downwardAPI field \"\(path)\" is not supported")
        }
        try files.add(item["path"].string ?? "", Array(text.utf8), mode)
      }
    case "serviceAccountToken":
      let audience = source["audience"].string.flatMap { $0.isEmpty ? nil : $0 }
      let seconds = source["expirationSeconds"].integer ?? 3_600
      let token = try await tokens.token(audience, seconds) {
        try await api.token(audience: audience, seconds: seconds, for: pod)
      }
      guard let token else {
        files.isIncomplete = true
        return
      }
      // Where it is known who the containers run as, nobody else may read it.
      let owner = Self.commonUser(pod)
      let isOwn = owner != nil || fsGroup(pod) != nil
      try files.add(
        source["path"].string ?? "token", Array(token.utf8), isOwn ? 0o600 : defaultMode,
        owner: owner)
    case "clusterTrustBundle":
      // Reported by `omissions`.
      return
    default: throw PreparationError("projected source \(kind) is not supported")
    }
  }

  /// The user that all containers of a pod run as by its manifest; nil where that isn't known for each.
  static func commonUser(_ pod: PodManifest) -> UInt32? {
    let spec = pod.object["spec"]
    let shared = spec["securityContext"]["runAsUser"].integer
    let users = (spec["initContainers"].elements + spec["containers"].elements).map {
      $0["securityContext"]["runAsUser"].integer ?? shared
    }
    guard let first = users.first, let user = first, users.allSatisfy({ $0 == user }) else {
      return nil
    }
    return UInt32(exactly: user)
  }

  /// The keys and bytes of a config map or secret; entries that aren't valid base64 are left out, as the
  /// API server would not have taken them.
  static func content(of object: Value) -> [(key: String, bytes: [UInt8])] {
    var content: [(key: String, bytes: [UInt8])] = []
    let isSecret = object["kind"].string == "Secret"
    for member in object["data"].members {
      let text = member.value.string ?? ""
      if isSecret {
        if let bytes = Base64.decode(text) { content.append((member.key, bytes)) }
      } else {
        content.append((member.key, Array(text.utf8)))
      }
    }
    for member in object["binaryData"].members {
      if let bytes = Base64.decode(member.value.string ?? "") {
        content.append((member.key, bytes))
      }
    }
    return content
  }
}
