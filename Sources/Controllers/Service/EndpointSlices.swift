import KubeAPI

/// Spreads endpoints over EndpointSlices.
///
/// A slice holds at most 100 endpoints that share their ports, so that a change of one pod costs a small
/// write. What is there is changed as little as possible: an endpoint stays in the slice that it is in.
struct EndpointSlices: Equatable {
  var create: [Value] = []
  var update: [Value] = []
  var delete: [String] = []

  static let serviceLabel = "kubernetes.io/service-name"
  static let managerLabel = "endpointslice.kubernetes.io/managed-by"
  /// Kubernetes' default, `--max-endpoints-per-slice`.
  static let endpointsPerSlice = 100

  /// Endpoints with the same ports.
  struct Group: Equatable {
    var addressType: String
    var ports: [Value]
    var endpoints: [Value]
  }

  /// Decides which slices to make, change and delete.
  ///
  /// - Parameters:
  ///   - groups: what there should be, each set of ports once.
  ///   - slices: those that there are.
  ///   - blank: a new slice without endpoints and ports.
  ///   - keepsOne: whether an empty slice stays where there is no endpoint at all.
  static func plan(
    _ groups: [Group], slices: [Value], blank: Value, keepsOne: Bool
  ) -> EndpointSlices {
    var plan = EndpointSlices()
    var groups = groups.filter { !$0.endpoints.isEmpty }
    if groups.isEmpty, keepsOne {
      let type = blank["addressType"].string ?? "IPv4"
      groups = [Group(addressType: type, ports: [], endpoints: [])]
    }
    var left = slices.filter { !AnyObjectView($0).isBeingDeleted }
    for group in groups {
      let isEmpty = group.endpoints.isEmpty
      let own = left.filter {
        $0["addressType"].string == group.addressType
          && (isEmpty || $0["ports"].elements == group.ports)
      }
      // Only one slice stays for a group without endpoints; it serves the first that come.
      let kept =
        isEmpty
        ? Array(own.prefix(1))
        : own.isEmpty
          ? Array(
            left.filter {
              $0["addressType"].string == group.addressType && $0["endpoints"].isEmpty
            }.prefix(1)) : own
      left.removeAll { slice in
        kept.contains { AnyObjectView($0).name == AnyObjectView(slice).name }
      }
      plan.fill(group, kept, blank)
    }
    plan.delete += left.map { AnyObjectView($0).name }
    return plan
  }

  /// Identity of an endpoint: what it stands for, or where it is.
  private static func identity(_ endpoint: Value) -> String {
    endpoint["targetRef"]["uid"].string ?? endpoint["addresses"].jsonString
  }

  private mutating func fill(_ group: Group, _ slices: [Value], _ blank: Value) {
    var wanted: [String: Value] = [:]
    for endpoint in group.endpoints { wanted[Self.identity(endpoint)] = endpoint }
    var contents: [[Value]] = slices.map { slice in
      slice["endpoints"].elements.compactMap { wanted.removeValue(forKey: Self.identity($0)) }
    }
    var rest = group.endpoints.filter { wanted[Self.identity($0)] != nil }
    // The fullest slices with room first.
    for index in contents.indices.sorted(by: { contents[$0].count > contents[$1].count }) {
      let room = max(0, Self.endpointsPerSlice - contents[index].count)
      // A slice that would be empty stays only if it is needed.
      contents[index] += rest.prefix(room)
      rest.removeFirst(min(room, rest.count))
    }
    let keepsEmpty = group.endpoints.isEmpty
    for (slice, endpoints) in zip(slices, contents) {
      if endpoints.isEmpty, !keepsEmpty {
        delete.append(AnyObjectView(slice).name)
        continue
      }
      var changed = slice
      changed["endpoints"] = .array(endpoints)
      changed["ports"] = .array(group.ports)
      changed["metadata"]["labels"] = blank["metadata"]["labels"]
      if changed["endpoints"] != .array(slice["endpoints"].elements)
        || changed["ports"] != .array(slice["ports"].elements)
        || changed["metadata"]["labels"] != slice["metadata"]["labels"]
      {
        update.append(changed)
      }
    }
    while !rest.isEmpty || keepsEmpty && slices.isEmpty && create.isEmpty {
      var slice = blank
      slice["addressType"] = Value(group.addressType)
      slice["endpoints"] = .array(Array(rest.prefix(Self.endpointsPerSlice)))
      slice["ports"] = .array(group.ports)
      create.append(slice)
      rest.removeFirst(min(Self.endpointsPerSlice, rest.count))
    }
  }
}
