/// The resources that a server knows: a value, so that what is served at one moment (with custom
/// resources, which come and go) is a snapshot.
public struct Scheme: Sendable {
  /// In the order of registration, which is the order of discovery within a group.
  public private(set) var resources: [ResourceDefinition] = []
  /// Group versions in the order of their first registration.
  public private(set) var groupVersions: [GroupVersion] = []
  /// Where the resources lie in the store.
  public private(set) var storage = StorageLayout()
  private var byResource: [ResourceKey: Int] = [:]
  private var byKind: [GroupVersionKind: Int] = [:]

  private struct ResourceKey: Hashable {
    let groupVersion: GroupVersion
    let plural: String
  }

  public init() {}

  /// The kinds of the built-in API.
  public static let builtIn: Scheme = {
    var scheme = Scheme()
    for resource in ResourceDefinition.builtIn { scheme.register(resource) }
    return scheme
  }()

  /// Adds a resource, or replaces the one of the same group, version and plural.
  public mutating func register(_ resource: ResourceDefinition) {
    storage.add(resource)
    let key = ResourceKey(groupVersion: resource.groupVersion, plural: resource.plural)
    if let index = byResource[key] {
      byKind[resources[index].kind] = nil
      resources[index] = resource
      byKind[resource.kind] = index
      return
    }
    byResource[key] = resources.count
    byKind[resource.kind] = resources.count
    resources.append(resource)
    if !groupVersions.contains(resource.groupVersion) {
      groupVersions.append(resource.groupVersion)
    }
  }

  public func resource(_ groupVersion: GroupVersion, _ plural: String) -> ResourceDefinition? {
    byResource[ResourceKey(groupVersion: groupVersion, plural: plural)].map { resources[$0] }
  }

  public func resource(for kind: GroupVersionKind) -> ResourceDefinition? {
    byKind[kind].map { resources[$0] }
  }

  public func resources(in groupVersion: GroupVersion) -> [ResourceDefinition] {
    resources.filter { $0.groupVersion == groupVersion }
  }

  /// The groups, the core group (empty) first, each with its versions in order of preference.
  public var groups: [(name: String, versions: [GroupVersion])] {
    var groups: [(name: String, versions: [GroupVersion])] = []
    for groupVersion in groupVersions {
      if let index = groups.firstIndex(where: { $0.name == groupVersion.group }) {
        groups[index].versions.append(groupVersion)
      } else {
        groups.append((groupVersion.group, [groupVersion]))
      }
    }
    return groups
  }
}
