import KubeAPI
import KubeClient

/// Writes down which pods serve each Service: what proxies read.
struct EndpointSliceController: Sendable {
  private let reconciler: Reconciler<ObjectKey>

  static let manager = "endpointslice-controller.k8s.io"

  enum Limits {
    /// Changes of pods that come within this time of each other are written together.
    static let batchTime = Duration.milliseconds(50)
  }

  init(_ context: ControllerContext) {
    let queue = WorkQueue<ObjectKey>()
    let expectations = Expectations()
    reconciler = Reconciler(name: "endpointslice", queue: queue, workers: 4, log: context.log) {
      try await Self.reconcile($0, context, expectations)
    }
    context.services.addHandler { queue.add(ObjectKey($0.object)) }
    context.endpointSlices.addHandler { change in
      let slice = AnyObjectView(change.object)
      guard slice.labels[EndpointSlices.managerLabel].string == Self.manager,
        let name = slice.labels[EndpointSlices.serviceLabel].string
      else { return }
      queue.add(ObjectKey(namespace: slice.namespace, name: name))
    }
    context.pods.addHandler { change in
      for key in ServicesOfPods.affected(by: change, context) {
        queue.add(key, after: Limits.batchTime)
      }
    }
  }

  func run() async { await reconciler.run() }

  private static func reconcile(
    _ key: ObjectKey, _ context: ControllerContext, _ expectations: Expectations
  ) async throws {
    // What belonged to a Service that is gone is collected as its dependents.
    guard let object = context.services.get(key) else { return expectations.forget(key) }
    // The slices that are missing call again when they show.
    guard expectations.areMet(key, context.endpointSlices) else { return }
    let service = ServiceView(object)
    guard !service.selector.isEmpty, service.type != "ExternalName", !service.isBeingDeleted else {
      return
    }
    let slices = context.endpointSlices.list(index: ControllerContext.byService, key.description)
      .filter { AnyObjectView($0).labels[EndpointSlices.managerLabel].string == manager }
    let pods = context.pods.list(index: ControllerContext.byNamespace, key.namespace)
    let plan = decide(service, pods: pods.map(PodView.init), slices: slices) { node in
      context.nodes.get(name: node).map(NodeView.init)?.labels["topology.kubernetes.io/zone"].string
    }
    try await plan.carryOut(key, context, expectations)
  }

  /// What the slices of `service` should become.
  ///
  /// - Parameters:
  ///   - pods: those of its namespace.
  ///   - slices: those of it that this controller has made.
  ///   - zone: the zone of a node, by its name.
  static func decide(
    _ service: ServiceView, pods: [PodView], slices: [Value], zone: (String) -> String?
  ) -> EndpointSlices {
    let isV6 = ServiceEndpoints.isV6(service)
    let type = isV6 ? "IPv6" : "IPv4"
    var groups: [EndpointSlices.Group] = []
    for pod in ServiceEndpoints.candidates(service, pods) {
      let addresses = ServiceEndpoints.addresses(of: pod).filter { IPAddress.isV6($0) == isV6 }
      guard let address = addresses.first else { continue }
      let ports = ServiceEndpoints.ports(service, pod)
      if ports.isEmpty, !service.ports.isEmpty { continue }
      let endpoint = endpoint(service, pod, address, zone)
      if let index = groups.firstIndex(where: { $0.ports == ports }) {
        groups[index].endpoints.append(endpoint)
      } else {
        groups.append(
          EndpointSlices.Group(addressType: type, ports: ports, endpoints: [endpoint]))
      }
    }
    return EndpointSlices.plan(
      groups, slices: slices, blank: blank(service, type), keepsOne: true)
  }

  private static func endpoint(
    _ service: ServiceView, _ pod: PodView, _ address: String, _ zone: (String) -> String?
  ) -> Value {
    let publishesAll = service.object["spec"]["publishNotReadyAddresses"] == true
    let isTerminating = pod.isBeingDeleted
    var endpoint: Value = [
      "addresses": [Value(address)],
      "conditions": [
        "ready": Value(publishesAll || pod.isReady && !isTerminating),
        "serving": Value(pod.isReady), "terminating": Value(isTerminating),
      ],
      "targetRef": ServiceEndpoints.target(pod),
    ]
    if let hostname = ServiceEndpoints.hostname(service, pod) {
      endpoint["hostname"] = Value(hostname)
    }
    if !pod.nodeName.isEmpty {
      endpoint["nodeName"] = Value(pod.nodeName)
      if let zone = zone(pod.nodeName) { endpoint["zone"] = Value(zone) }
    }
    return endpoint
  }

  private static func blank(_ service: ServiceView, _ addressType: String) -> Value {
    var labels = service.labels.isNull ? [:] : service.labels
    if service.isHeadless { labels["service.kubernetes.io/headless"] = "" }
    labels[EndpointSlices.serviceLabel] = Value(service.name)
    labels[EndpointSlices.managerLabel] = Value(manager)
    var owner = service.object
    owner["apiVersion"] = "v1"
    owner["kind"] = "Service"
    return [
      "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
      "metadata": [
        "generateName": Value("\(service.name)-"), "namespace": Value(service.namespace),
        "labels": labels, "ownerReferences": [OwnerReference(controller: owner).value],
      ],
      "addressType": Value(addressType),
    ]
  }
}

extension EndpointSlices {
  /// Writes it all. New slices go first: no moment is without the endpoints that move.
  func carryOut(
    _ key: ObjectKey, _ context: ControllerContext, _ expectations: Expectations
  ) async throws {
    let namespace = key.namespace
    for slice in create {
      do {
        let made = try await context.client.create(.endpointSlices, namespace: namespace, slice)
        expectations.expect(key, made: [AnyObjectView(made).name])
      } catch let error as StatusError where error.code == 404 || error.isTerminating {
        return
      }
    }
    for slice in update { try await context.client.update(.endpointSlices, slice) }
    for name in delete {
      do {
        try await context.client.delete(.endpointSlices, namespace: namespace, name: name)
      } catch let error as StatusError where error.code == 404 {}
    }
  }
}

extension Expectations {
  /// Whether the cache shows the slices that were made last: else a second set would be made.
  func areMet(_ key: ObjectKey, _ slices: Informer) -> Bool {
    areMet(key) { slices.get(namespace: key.namespace, name: $0) == nil ? .absent : .alive }
  }
}

extension StatusError {
  /// The namespace is on its way out and takes nothing new.
  var isTerminating: Bool {
    code == 403 && details?.causes.contains { $0.reason == "NamespaceTerminating" } == true
  }
}

/// Which Services a change of a pod concerns.
enum ServicesOfPods {
  static func affected(by change: Informer.Change, _ context: ControllerContext) -> [ObjectKey] {
    let pod = AnyObjectView(change.object)
    var labels = [pod.labels]
    if case .updated(let old, let new) = change {
      guard isRelevant(old, new) else { return [] }
      if old["metadata"]["labels"] != pod.labels { labels.append(old["metadata"]["labels"]) }
    }
    return context.services.list(index: ControllerContext.byNamespace, pod.namespace)
      .map(ServiceView.init)
      .filter { service in
        guard !service.selector.isEmpty else { return false }
        let selector = LabelSelector(labels: service.selector)
        return labels.contains { selector.matches($0) }
      }.map { ObjectKey($0.object) }
  }

  /// Whether an endpoint could look different.
  private static func isRelevant(_ old: Value, _ new: Value) -> Bool {
    let (before, after) = (PodView(old), PodView(new))
    return before.isReady != after.isReady || before.labels != after.labels
      || before.isBeingDeleted != after.isBeingDeleted || before.isFinished != after.isFinished
      || before.nodeName != after.nodeName
      || ServiceEndpoints.addresses(of: before) != ServiceEndpoints.addresses(of: after)
  }
}
