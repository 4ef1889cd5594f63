import EtcdClient
import KubeAPI
import Primitives

/// Gives Services their cluster addresses and node ports.
///
/// ## The problem
/// Two Services must never have the same address or node port, though several API servers write at once
/// and any of them may die at any moment.
///
/// ## The design
/// Each address and port in use is a key of its own. A Service and its keys are written, and deleted, in
/// one transaction of the store, so a key exists exactly as long as its Service has the address: nothing can
/// leak, and nothing must be repaired. A free one is guessed; if the store says that it is taken, the
/// keys are read and one that isn't there is chosen.
///
/// The lower part of the addresses is left to those who ask for a particular one, as Kubernetes does it.
/// Source: Kubernetes, "Service ClusterIP allocation", "NodePort".
struct ServiceAllocation: Sendable {
  enum Limits {
    /// Guesses before the free ones are looked for in order.
    static let guesses = 64
  }

  let addresses: AddressRange
  let ports: ClosedRange<Int64>

  static let addressPrefix = "/registry/ipaddresses/"
  static let portPrefix = "/registry/ranges/servicenodeports/"

  static let standardPorts: ClosedRange<Int64> = 30_000...32_767

  static func concerns(_ resource: ResourceDefinition) -> Bool {
    resource.groupResource == GroupResource(group: "", resource: "services")
  }

  /// The keys that a Service holds.
  static func keys(of service: Value) -> [String] {
    let view = ServiceView(service)
    return view.addresses.map { addressPrefix + $0 } + view.nodePorts.map { portPrefix + "\($0)" }
  }

  /// What goes with the deletion of a Service.
  static func releases(of service: Value) -> [StoreSwap.Companion] {
    keys(of: service).map { .release(key: Array($0.utf8)) }
  }

  /// What goes with a write of `service` in the place of `old` (null for none).
  static func companions(of service: Value, from old: Value) -> [StoreSwap.Companion] {
    let before = keys(of: old)
    let after = keys(of: service)
    let view = ServiceView(service)
    let owner: Value = [
      "kind": "IPAddress", "apiVersion": "networking.k8s.io/v1",
      "spec": [
        "parentRef": [
          "resource": "services", "namespace": Value(view.namespace), "name": Value(view.name),
        ]
      ],
    ]
    return after.filter { !before.contains($0) }.map {
      .claim(key: Array($0.utf8), value: owner.json)
    } + before.filter { !after.contains($0) }.map { .release(key: Array($0.utf8)) }
  }

  // MARK: Assigning

  /// The keys that were asked for by name, and what to say where one of them is taken.
  typealias Wishes = [String: FieldError]

  /// Fills in the addresses and ports that a Service needs and doesn't have.
  ///
  /// - Parameters:
  ///   - old: the Service as it is stored; null for a new one.
  ///   - taken: keys that are known to be in use.
  /// - Returns: what the writer itself has chosen.
  /// - Throws: 422 for a wish out of range, 500 where nothing is free.
  func assign(
    _ service: inout Value, from old: Value, taken: Set<String>, random: inout RandomSource
  ) throws(StatusError) -> Wishes {
    let before = Set(Self.keys(of: old))
    var wishes: Wishes = [:]
    var errors: [FieldError] = []
    if ServiceView(service).needsAddress {
      errors += setFamilies(&service)
      if errors.isEmpty {
        try setAddress(&service, before, taken, &wishes, &errors, &random)
      }
    }
    if ServiceView(service).needsNodePorts || !ServiceView(service).nodePorts.isEmpty {
      try setPorts(&service, before, taken, &wishes, &errors, &random)
    }
    guard errors.isEmpty else {
      throw .invalid(
        GroupVersionKind(group: "", version: "v1", kind: "Service"),
        name: ServiceView(service).name, errors)
    }
    return wishes
  }

  private var family: String { addresses.isV6 ? "IPv6" : "IPv4" }

  /// One family of addresses is served; what asks for more is refused or given one.
  private func setFamilies(_ service: inout Value) -> [FieldError] {
    let path = FieldPath("spec")
    let view = ServiceView(service)
    let wanted = service["spec"]["ipFamilies"].strings
    // Whoever makes endpoints by hand may have any.
    let isFree = view.isHeadless && view.selector.isEmpty
    if isFree {
      if wanted.isEmpty {
        service["spec"].setDefault("ipFamilyPolicy", to: "RequireDualStack")
        let isDual = service["spec"]["ipFamilyPolicy"] != "SingleStack"
        let other = addresses.isV6 ? "IPv4" : "IPv6"
        service["spec"]["ipFamilies"] = isDual ? [Value(family), Value(other)] : [Value(family)]
      }
      service["spec"].setDefault("ipFamilyPolicy", to: "SingleStack")
      return []
    }
    if service["spec"]["ipFamilyPolicy"] == "RequireDualStack" {
      return [
        .invalid(
          path.child("ipFamilyPolicy"), "RequireDualStack",
          "this cluster is not configured for dual-stack services")
      ]
    }
    var errors: [FieldError] = []
    for (index, name) in wanted.enumerated() where name != family {
      errors.append(
        .invalid(
          path.child("ipFamilies").index(index), .string(name), "not configured on this cluster"))
    }
    service["spec"].setDefault("ipFamilyPolicy", to: "SingleStack")
    if wanted.isEmpty { service["spec"]["ipFamilies"] = [Value(family)] }
    return errors
  }

  private func setAddress(
    _ service: inout Value, _ before: Set<String>, _ taken: Set<String>, _ wishes: inout Wishes,
    _ errors: inout [FieldError], _ random: inout RandomSource
  ) throws(StatusError) {
    guard service["spec"]["clusterIP"] != "None" else { return }
    let path = FieldPath("spec").child("clusterIPs")
    if let wish = service["spec"]["clusterIP"].string, !wish.isEmpty {
      let key = Self.addressPrefix + wish
      // What isn't an address at all is the validation's to tell.
      guard IPAddress.isValid(wish), !before.contains(key) else { return }
      let value = service["spec"]["clusterIPs"]
      if !addresses.contains(wish) {
        errors.append(
          .invalid(
            path, value,
            "failed to allocate IP \(wish): provided IP is not in the valid range. "
              + "The range of valid IPs is \(addresses)"))
      }
      wishes[key] = .invalid(
        path, value, "failed to allocate IP \(wish): provided IP is already allocated")
      return
    }
    let count = addresses.count
    // Kubernetes' rule for the part that is given away on request only.
    let reserved = min(max(16, count / 16), 256, count / 2)
    let address =
      choose(from: reserved..<count, taken, &random) { Self.addressPrefix + addresses.address($0) }
      ?? choose(from: 0..<reserved, taken, &random) { Self.addressPrefix + addresses.address($0) }
    guard let address else {
      throw .internalError("failed to allocate a serviceIP: range is full")
    }
    let text = String(address.dropFirst(Self.addressPrefix.count))
    service["spec"]["clusterIP"] = Value(text)
    service["spec"]["clusterIPs"] = [Value(text)]
  }

  private func setPorts(
    _ service: inout Value, _ before: Set<String>, _ taken: Set<String>, _ wishes: inout Wishes,
    _ errors: inout [FieldError], _ random: inout RandomSource
  ) throws(StatusError) {
    func wish(_ number: Int64, _ path: FieldPath) {
      let key = Self.portPrefix + "\(number)"
      if before.contains(key) { return }
      if !ports.contains(number) {
        errors.append(
          .invalid(
            path, .integer(number),
            "provided port is not in the valid range. The range of valid ports is "
              + "\(ports.lowerBound)-\(ports.upperBound)"))
      }
      wishes[key] = .invalid(path, .integer(number), "provided port is already allocated")
    }
    func free() throws(StatusError) -> Int64 {
      let own = Set(ServiceView(service).nodePorts.map { Self.portPrefix + "\($0)" })
      let range = UInt64(ports.lowerBound)..<UInt64(ports.upperBound) + 1
      guard
        let key = choose(from: range, taken.union(own), &random, { Self.portPrefix + "\($0)" }),
        let number = Int64(key.dropFirst(Self.portPrefix.count))
      else { throw .internalError("failed to allocate a nodePort: range is full") }
      return number
    }
    let path = FieldPath("spec").child("ports")
    let needsPorts = ServiceView(service).needsNodePorts
    // First what is asked for, so that no choice of ours takes it.
    for (index, port) in service["spec"]["ports"].elements.enumerated() {
      if let number = port["nodePort"].integer, number != 0 {
        wish(number, path.index(index).child("nodePort"))
      }
    }
    if let number = service["spec"]["healthCheckNodePort"].integer, number != 0 {
      wish(number, FieldPath("spec").child("healthCheckNodePort"))
    }
    guard needsPorts else { return }
    for index in service["spec"]["ports"].elements.indices
    where service["spec"]["ports"][index]["nodePort"].integer ?? 0 == 0 {
      // The same port of another protocol may share the number.
      let port = service["spec"]["ports"][index]
      let twin = service["spec"]["ports"].elements.first {
        $0["port"] == port["port"] && $0["protocol"] != port["protocol"]
          && $0["nodePort"].integer ?? 0 != 0
      }
      let number: Int64
      if let shared = twin?["nodePort"].integer { number = shared } else { number = try free() }
      service["spec"]["ports"][index]["nodePort"] = .integer(number)
    }
    if ServiceView(service).needsHealthPort,
      service["spec"]["healthCheckNodePort"].integer ?? 0 == 0
    {
      service["spec"]["healthCheckNodePort"] = .integer(try free())
    }
  }

  /// A key of the range that isn't taken: guessed, then looked for.
  private func choose(
    from range: Range<UInt64>, _ taken: Set<String>, _ random: inout RandomSource,
    _ key: (UInt64) -> String
  ) -> String? {
    guard !range.isEmpty else { return nil }
    for _ in 0..<Limits.guesses {
      let guess = key(range.lowerBound + random.below(UInt64(range.count)))
      if !taken.contains(guess) { return guess }
    }
    return range.lazy.map(key).first { !taken.contains($0) }
  }
}

extension ResourceService {
  /// All keys of addresses and ports in use.
  func takenKeys() async throws(StatusError) -> Set<String> {
    var keys: Set<String> = []
    for prefix in [ServiceAllocation.addressPrefix, ServiceAllocation.portPrefix] {
      var query = StoreQuery(.prefix(Array(prefix.utf8)))
      query.keysOnly = true
      let page = try await storing { () throws(StoreError) in try await store.read(query) }
      for record in page.records { keys.insert(String(decoding: record.key, as: UTF8.self)) }
    }
    return keys
  }

  /// Whether what a dry run would claim is free.
  func takenClaims(
    _ companions: [StoreSwap.Companion]
  ) async throws(StatusError) -> [[UInt8]] {
    var taken: [[UInt8]] = []
    for case .claim(let key, _) in companions {
      let page = try await storing { () throws(StoreError) in
        try await store.read(StoreQuery(.key(key)))
      }
      if !page.records.isEmpty { taken.append(key) }
    }
    return taken
  }
}
