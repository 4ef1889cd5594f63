/// The documents that tell clients which resources there are.
///
/// The aggregated form (two requests for everything) is what kubectl asks for since 1.26; the
/// legacy form is one document per group version. All are snapshots of a `Scheme`.
public struct Discovery: Sendable {
  private let scheme: Scheme

  public init(_ scheme: Scheme) {
    self.scheme = scheme
  }

  // MARK: Aggregated

  /// - Parameters:
  ///   - isCore: true for `/api`, false for `/apis`.
  ///   - version: of apidiscovery.k8s.io, `v2` or `v2beta1`, as the client accepted.
  public func aggregated(isCore: Bool, version: String = "v2") -> Value {
    let groups = scheme.groups.filter { $0.name.isEmpty == isCore }
    return [
      "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/\(version)",
      "metadata": [:],
      "items": .array(
        groups.map { group in
          [
            "metadata": group.name.isEmpty ? [:] : ["name": Value(group.name)],
            "versions": .array(
              group.versions.map { version in
                [
                  "version": Value(version.version),
                  "resources": .array(scheme.resources(in: version).map(aggregated)),
                  "freshness": "Current",
                ]
              }),
          ]
        }),
    ]
  }

  private func aggregated(_ resource: ResourceDefinition) -> Value {
    var value: Value = [
      "resource": Value(resource.plural), "responseKind": responseKind(resource.kind),
      "scope": resource.isNamespaced ? "Namespaced" : "Cluster",
      "singularResource": Value(resource.singular), "verbs": Value(resource.verbs),
    ]
    if !resource.shortNames.isEmpty { value["shortNames"] = Value(resource.shortNames) }
    if !resource.categories.isEmpty { value["categories"] = Value(resource.categories) }
    if !resource.subresources.isEmpty {
      value["subresources"] = .array(
        resource.subresources.map {
          [
            "subresource": Value($0.name), "responseKind": responseKind($0.kind),
            "verbs": Value($0.verbs),
          ]
        })
    }
    return value
  }

  private func responseKind(_ kind: GroupVersionKind) -> Value {
    ["group": Value(kind.group), "version": Value(kind.version), "kind": Value(kind.kind)]
  }

  // MARK: Legacy

  /// `/api`: the versions of the core group.
  public func coreVersions(serverAddress: String) -> Value {
    let versions = scheme.groups.first { $0.name.isEmpty }?.versions ?? []
    return [
      "kind": "APIVersions", "versions": Value(versions.map(\.version)),
      "serverAddressByClientCIDRs": [
        ["clientCIDR": "0.0.0.0/0", "serverAddress": Value(serverAddress)]
      ],
    ]
  }

  /// `/apis`: all groups but the core.
  public var groupList: Value {
    [
      "kind": "APIGroupList", "apiVersion": "v1",
      "groups": .array(
        scheme.groups.filter { !$0.name.isEmpty }.map { group($0.name, $0.versions) }),
    ]
  }

  /// `/apis/GROUP`, or nil if there is no such group.
  public func group(_ name: String) -> Value? {
    guard let group = scheme.groups.first(where: { $0.name == name && !name.isEmpty }) else {
      return nil
    }
    var value: Value = ["kind": "APIGroup", "apiVersion": "v1"]
    for member in self.group(name, group.versions).members { value[member.key] = member.value }
    return value
  }

  private func group(_ name: String, _ versions: [GroupVersion]) -> Value {
    let list = versions.map { version -> Value in
      ["groupVersion": Value(version.apiVersion), "version": Value(version.version)]
    }
    return [
      "name": Value(name), "versions": .array(list), "preferredVersion": list.first ?? .null,
    ]
  }

  /// `/api/v1` or `/apis/GROUP/VERSION`, or nil if there is no such group version.
  public func resourceList(_ groupVersion: GroupVersion) -> Value? {
    guard scheme.groupVersions.contains(groupVersion) else { return nil }
    var resources: [Value] = []
    for resource in scheme.resources(in: groupVersion) {
      var value: Value = [
        "name": Value(resource.plural), "singularName": Value(resource.singular),
        "namespaced": Value(resource.isNamespaced), "kind": Value(resource.kind.kind),
        "verbs": Value(resource.verbs),
      ]
      if !resource.shortNames.isEmpty { value["shortNames"] = Value(resource.shortNames) }
      if !resource.categories.isEmpty { value["categories"] = Value(resource.categories) }
      resources.append(value)
      for subresource in resource.subresources {
        var value: Value = [
          "name": Value("\(resource.plural)/\(subresource.name)"), "singularName": "",
          "namespaced": Value(resource.isNamespaced),
        ]
        if subresource.kind.groupVersion != groupVersion {
          value["group"] = Value(subresource.kind.group)
          value["version"] = Value(subresource.kind.version)
        }
        value["kind"] = Value(subresource.kind.kind)
        value["verbs"] = Value(subresource.verbs)
        resources.append(value)
      }
    }
    return [
      "kind": "APIResourceList", "apiVersion": "v1",
      "groupVersion": Value(groupVersion.apiVersion), "resources": .array(resources),
    ]
  }
}

/// A digest of a document, for ETags and the `hash` in its address: it changes with the content.
/// Not for security.
public enum ContentHash {
  /// 128 bits in hexadecimal: FNV-1a from two starting points.
  public static func hex(_ bytes: [UInt8]) -> String {
    var result = ""
    for start: UInt64 in [0xcbf2_9ce4_8422_2325, 0x6c62_272e_07bb_0142] {
      var hash = start
      for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
      let text = String(hash, radix: 16, uppercase: true)
      result += String(repeating: "0", count: 16 - text.count) + text
    }
    return result
  }
}
