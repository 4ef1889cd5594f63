/// An API group and a version of it; the group is empty for the core group.
public struct GroupVersion: Sendable, Hashable, CustomStringConvertible {
  public let group: String
  public let version: String

  public init(group: String, version: String) {
    self.group = group
    self.version = version
  }

  /// Reads `v1` or `apps/v1`.
  public init?(apiVersion: String) {
    let parts = apiVersion.split(separator: "/", omittingEmptySubsequences: false)
    switch parts.count {
    case 1 where !apiVersion.isEmpty: self.init(group: "", version: apiVersion)
    case 2 where !parts[1].isEmpty:
      self.init(group: String(parts[0]), version: String(parts[1]))
    default: return nil
    }
  }

  /// As in an object's `apiVersion`: `v1`, `apps/v1`.
  public var apiVersion: String { group.isEmpty ? version : "\(group)/\(version)" }
  public var description: String { apiVersion }
}

/// What an object says it is.
public struct GroupVersionKind: Sendable, Hashable, CustomStringConvertible {
  public let group: String
  public let version: String
  public let kind: String

  public init(group: String, version: String, kind: String) {
    self.group = group
    self.version = version
    self.kind = kind
  }

  public init(_ groupVersion: GroupVersion, _ kind: String) {
    self.init(group: groupVersion.group, version: groupVersion.version, kind: kind)
  }

  /// What `object` says of itself, if it says it.
  public init?(of object: Value) {
    guard let apiVersion = object["apiVersion"].string,
      let groupVersion = GroupVersion(apiVersion: apiVersion),
      let kind = object["kind"].string, !kind.isEmpty
    else { return nil }
    self.init(groupVersion, kind)
  }

  public var groupVersion: GroupVersion { GroupVersion(group: group, version: version) }
  public var apiVersion: String { groupVersion.apiVersion }
  /// As Kubernetes prints one: `apps/v1, Kind=Deployment`.
  public var description: String { "\(apiVersion), Kind=\(kind)" }
}

/// A resource of a group, whatever its version: `pods`, `deployments.apps`.
public struct GroupResource: Sendable, Hashable, CustomStringConvertible {
  public let group: String
  /// The plural, lower-case name.
  public let resource: String

  public init(group: String, resource: String) {
    self.group = group
    self.resource = resource
  }

  public var description: String { group.isEmpty ? resource : "\(resource).\(group)" }
}
