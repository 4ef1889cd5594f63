import EtcdClient
import KubeAPI
import Logging
import Primitives

/// Makes what every cluster has: the system's namespaces and priority classes, and the Service
/// `kubernetes`, by which pods reach the API.
///
/// Where several API servers run, each notes its address under a lease of the store, and each writes
/// the addresses of all that are alive into the Service's endpoints. One that dies is gone from them when
/// its lease has ended. Source: Kubernetes, `--endpoint-reconciler-type=lease`.
struct Bootstrap: Sendable {
  enum Limits {
    /// How long an API server that doesn't renew its lease stays in the endpoints.
    static let leaseSeconds: Int64 = 15
    static let renewInterval: Duration = .seconds(10)
  }

  static let systemNamespaces = ["default", "kube-node-lease", "kube-public", "kube-system"]
  private static let addressPrefix = "/registry/masterleases/"
  private static let serviceName = "kubernetes"

  let service: ResourceService
  let health: HealthChecks
  /// Where this server is reached.
  let address: String
  let port: Int
  let publishesAddress: Bool
  /// The authority that signs here, in PEM.
  let authorityPEM: String
  let logger: Logger

  /// Tries until everything is there, then keeps the endpoints current until cancelled.
  func run() async {
    while !Task.isCancelled {
      do throws(StatusError) {
        try await makeObjects()
        if publishesAddress { try await publish() }
        break
      } catch {
        logger.warning(
          "can't make the system's objects yet", metadata: ["error": "\(error.message)"])
        try? await Task.sleep(for: .milliseconds(500))
      }
    }
    if Task.isCancelled { return }
    health.noteBootstrapped()
    while !Task.isCancelled {
      try? await Task.sleep(for: Limits.renewInterval)
      if Task.isCancelled { break }
      do throws(StatusError) {
        if publishesAddress { try await publish() }
      } catch {
        logger.warning(
          "can't renew the API's address", metadata: ["error": "\(error.message)"])
      }
    }
    if publishesAddress { await Task { try? await withdraw() }.value }
  }

  // MARK: Objects

  private func makeObjects() async throws(StatusError) {
    for name in Self.systemNamespaces {
      try await ensure(
        "v1", "namespaces",
        [
          "kind": "Namespace", "apiVersion": "v1",
          "metadata": [
            "name": Value(name), "labels": ["kubernetes.io/metadata.name": Value(name)],
          ],
        ])
    }
    for (name, what) in [
      ("system-cluster-critical", "cluster"), ("system-node-critical", "node"),
    ] {
      try await ensure(
        "scheduling.k8s.io/v1", "priorityclasses",
        [
          "kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1",
          "metadata": ["name": Value(name)],
          "value": Value(Admission.systemPriorities[name] ?? 0),
          "description": Value(
            what == "node"
              ? "Used for system critical pods that must not be moved from their current node."
              : "Used for system critical pods that must run in the cluster, but can be moved to "
                + "another node if necessary."),
        ])
    }
    try await put("v1", "configmaps", namespace: "kube-public", clusterInformation)
    try await ensure(
      "v1", "services", namespace: "default",
      [
        "kind": "Service", "apiVersion": "v1",
        "metadata": [
          "name": Value(Self.serviceName), "namespace": "default",
          "labels": ["component": "apiserver", "provider": "kubernetes"],
        ],
        "spec": [
          "type": "ClusterIP", "clusterIP": Value(service.allocation.addresses.address(0)),
          "ports": [
            ["name": "https", "port": 443, "protocol": "TCP", "targetPort": Value(port)]
          ],
        ],
      ])
  }

  /// By which a machine that joins finds the authority; it proves it by the authority's hash that it was told.
  /// Source: kubeadm, "Token-based discovery with CA pinning".
  private var clusterInformation: Value {
    let host = address.contains(":") ? "[\(address)]" : address
    let kubeconfig = """
      apiVersion: v1
      kind: Config
      clusters:
      - name: ""
        cluster:
          certificate-authority-data: \(Base64.encode(authorityPEM.utf8))
          server: https://\(host):\(port)

      """
    return [
      "kind": "ConfigMap", "apiVersion": "v1",
      "metadata": ["name": "cluster-info", "namespace": "kube-public"],
      "data": ["kubeconfig": Value(kubeconfig)],
    ]
  }

  private func resource(
    _ apiVersion: String, _ plural: String
  ) throws(StatusError) -> ResourceDefinition {
    guard let version = GroupVersion(apiVersion: apiVersion),
      let resource = service.scheme().resource(version, plural)
    else { throw .internalError("no resource \(plural)") }
    return resource
  }

  private var options: WriteOptions {
    var options = WriteOptions()
    options.fieldManager = "martlet-apiserver"
    return options
  }

  private func ensure(
    _ apiVersion: String, _ plural: String, namespace: String = "", _ object: Value
  ) async throws(StatusError) {
    let resource = try resource(apiVersion, plural)
    let key = resource.storageKey(
      namespace: namespace, name: object["metadata"]["name"].string ?? "")
    let found = try await service.storing { () throws(StoreError) in
      try await service.store.get(key).record
    }
    if found != nil { return }
    do throws(StatusError) {
      _ = try await service.insert(object, into: resource, namespace: namespace, options)
    } catch  where error.reason == .alreadyExists {
      return
    }
  }

  // MARK: Endpoints

  private var addressKey: String { Self.addressPrefix + "\(address):\(port)" }

  /// Notes this server's address for some seconds and writes all servers' into the endpoints.
  private func publish() async throws(StatusError) {
    let (key, store) = (addressKey, service.store)
    let note: Value = ["address": Value(address), "port": Value(port)]
    for _ in 0..<3 {
      let outcome = try await service.storing { () throws(StoreError) -> StoreSwapOutcome in
        let lease = try await store.grantLease(seconds: Limits.leaseSeconds)
        let current = try await store.get(key).record
        return try await store.swap(
          StoreSwap(
            key: Array(key.utf8), expected: current?.modRevision ?? .zero,
            change: .put(value: note.json, lease: lease)))
      }
      if case .done = outcome { break }
    }
    try await writeEndpoints()
  }

  /// Takes this server's address out: it is about to stop.
  private func withdraw() async throws(StatusError) {
    let (key, store) = (addressKey, service.store)
    _ = try await service.storing { () throws(StoreError) in
      if let current = try await store.get(key).record {
        _ = try await store.swap(
          StoreSwap(key: Array(key.utf8), expected: current.modRevision, change: .delete))
      }
    }
    try await writeEndpoints()
  }

  private func writeEndpoints() async throws(StatusError) {
    let page = try await service.storing { () throws(StoreError) in
      try await service.store.read(StoreQuery(.prefix(Array(Self.addressPrefix.utf8))))
    }
    var ports: [Int: [String]] = [:]
    for record in page.records {
      guard let note = try? Value(json: record.value), let port = note["port"].int,
        let address = note["address"].string, IPAddress.isValid(address)
      else { continue }
      ports[port, default: []].append(address)
    }
    let subsets: [Value] = ports.sorted { $0.key < $1.key }.map { port, addresses in
      [
        "addresses": .array(addresses.sorted().map { ["ip": Value($0)] }),
        "ports": [["name": "https", "port": Value(port), "protocol": "TCP"]],
      ]
    }
    let name = Value(Self.serviceName)
    try await put(
      "v1", "endpoints",
      [
        "kind": "Endpoints", "apiVersion": "v1",
        "metadata": [
          "name": name, "namespace": "default",
          "labels": ["endpointslice.kubernetes.io/skip-mirror": "true"],
        ],
        "subsets": .array(subsets),
      ])
    // A slice has one set of ports; servers on other ports get slices of their own.
    for (index, (port, addresses)) in ports.sorted(by: { $0.key < $1.key }).enumerated() {
      let isV6 = IPAddress.isV6(addresses.first ?? "")
      try await put(
        "discovery.k8s.io/v1", "endpointslices",
        [
          "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
          "metadata": [
            "name": index == 0 ? name : Value("\(Self.serviceName)-\(port)"),
            "namespace": "default", "labels": ["kubernetes.io/service-name": name],
          ],
          "addressType": isV6 ? "IPv6" : "IPv4",
          "endpoints": .array(
            addresses.sorted().map { ["addresses": [Value($0)], "conditions": ["ready": true]] }),
          "ports": [["name": "https", "port": Value(port), "protocol": "TCP"]],
        ])
    }
  }

  /// Makes an object, or makes it what it should be.
  private func put(
    _ apiVersion: String, _ plural: String, namespace: String = "default", _ wanted: Value
  ) async throws(StatusError) {
    let resource = try resource(apiVersion, plural)
    try await ensure(apiVersion, plural, namespace: namespace, wanted)
    let key = resource.storageKey(
      namespace: namespace, name: wanted["metadata"]["name"].string ?? "")
    for _ in 0..<ResourceService.Limits.writeAttempts {
      let record = try await service.storing { () throws(StoreError) in
        try await service.store.get(key).record
      }
      guard let record else { return }
      let old = try service.object(record, of: resource)
      var object = old.value
      for member in wanted.members where member.key != "metadata" {
        object[member.key] = member.value
      }
      for label in wanted["metadata"]["labels"].members {
        object["metadata"]["labels"][label.key] = label.value
      }
      if try await service.replace(old, with: object, in: resource, subresource: "", options)
        != nil
      {
        return
      }
    }
  }
}
