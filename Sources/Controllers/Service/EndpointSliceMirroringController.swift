import KubeAPI
import KubeClient

/// Copies Endpoints that were written by hand, for Services without a selector, into EndpointSlices, which
/// are all that proxies read. Source: Kubernetes, "EndpointSlices", "EndpointSlice mirroring".
struct EndpointSliceMirroringController: Sendable {
  private let reconciler: Reconciler<ObjectKey>

  static let manager = "endpointslicemirroring-controller.k8s.io"
  private static let skipLabel = "endpointslice.kubernetes.io/skip-mirror"
  private static let leaderKey = "control-plane.alpha.kubernetes.io/leader"
  /// Addresses of one subset that are copied. Source: `--mirroring-max-endpoints-per-subset`.
  private static let addressesPerSubset = 1000

  init(_ context: ControllerContext) {
    let queue = WorkQueue<ObjectKey>()
    let expectations = Expectations()
    reconciler = Reconciler(
      name: "endpointslice-mirroring", queue: queue, workers: 2, log: context.log
    ) { try await Self.reconcile($0, context, expectations) }
    context.services.addHandler { queue.add(ObjectKey($0.object)) }
    context.endpoints.addHandler { queue.add(ObjectKey($0.object)) }
    context.endpointSlices.addHandler { change in
      let slice = AnyObjectView(change.object)
      guard slice.labels[EndpointSlices.managerLabel].string == Self.manager,
        let name = slice.labels[EndpointSlices.serviceLabel].string
      else { return }
      queue.add(ObjectKey(namespace: slice.namespace, name: name))
    }
  }

  func run() async { await reconciler.run() }

  private static func reconcile(
    _ key: ObjectKey, _ context: ControllerContext, _ expectations: Expectations
  ) async throws {
    guard expectations.areMet(key, context.endpointSlices) else { return }
    let slices = context.endpointSlices.list(index: ControllerContext.byService, key.description)
      .filter { AnyObjectView($0).labels[EndpointSlices.managerLabel].string == manager }
    let service = context.services.get(key).map(ServiceView.init)
    let endpoints = context.endpoints.get(key)
    guard let service, let endpoints, service.selector.isEmpty else {
      // Nothing to mirror any more; most Services have no such slices at all.
      try await EndpointSlices(delete: slices.map { AnyObjectView($0).name })
        .carryOut(key, context, expectations)
      return
    }
    try await decide(service, endpoints: endpoints, slices: slices)
      .carryOut(key, context, expectations)
  }

  /// What the mirroring slices of `endpoints` should become.
  static func decide(
    _ service: ServiceView, endpoints: Value, slices: [Value]
  ) -> EndpointSlices {
    let view = AnyObjectView(endpoints)
    let isSkipped =
      view.labels[skipLabel] == "true" || view.annotations[leaderKey] != .null
      || view.isBeingDeleted
    var groups: [EndpointSlices.Group] = []
    for subset in isSkipped ? [] : endpoints["subsets"].elements {
      let ports = subset["ports"].elements.map { port -> Value in
        var port = port
        port.setDefault("name", to: "")
        port.setDefault("protocol", to: "TCP")
        return port
      }
      var count = 0
      for (list, isReady) in [("addresses", true), ("notReadyAddresses", false)] {
        for address in subset[list].elements where count < addressesPerSubset {
          count += 1
          let text = address["ip"].string ?? ""
          var endpoint: Value = [
            "addresses": [Value(text)], "conditions": ["ready": Value(isReady)],
          ]
          for key in ["hostname", "nodeName", "targetRef"] where !address[key].isEmpty {
            endpoint[key] = address[key]
          }
          let type = IPAddress.isV6(text) ? "IPv6" : "IPv4"
          if let index = groups.firstIndex(where: { $0.ports == ports && $0.addressType == type }) {
            groups[index].endpoints.append(endpoint)
          } else {
            groups.append(
              EndpointSlices.Group(addressType: type, ports: ports, endpoints: [endpoint]))
          }
        }
      }
    }
    var labels = view.labels.isNull ? [:] : view.labels
    labels[EndpointSlices.serviceLabel] = Value(service.name)
    labels[EndpointSlices.managerLabel] = Value(manager)
    var owner = endpoints
    owner["apiVersion"] = "v1"
    owner["kind"] = "Endpoints"
    return EndpointSlices.plan(
      groups, slices: slices,
      blank: [
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": [
          "generateName": Value("\(service.name)-"), "namespace": Value(service.namespace),
          "labels": labels, "ownerReferences": [OwnerReference(controller: owner).value],
        ],
      ], keepsOne: false)
  }
}
