import KubeAPI
import KubeClient

/// Keeps the Endpoints of each Service with a selector: the older form of what EndpointSlices tell.
struct EndpointsController: Sendable {
  private let reconciler: Reconciler<ObjectKey>

  /// The most addresses that one object tells; beyond, a note says so. Source: Kubernetes, "Endpoints".
  static let capacity = 1000
  static let overCapacityKey = "endpoints.kubernetes.io/over-capacity"

  init(_ context: ControllerContext) {
    let queue = WorkQueue<ObjectKey>()
    reconciler = Reconciler(name: "endpoint", queue: queue, workers: 4, log: context.log) {
      try await Self.reconcile($0, context)
    }
    context.services.addHandler { queue.add(ObjectKey($0.object)) }
    context.endpoints.addHandler { queue.add(ObjectKey($0.object)) }
    context.pods.addHandler { change in
      for key in ServicesOfPods.affected(by: change, context) {
        queue.add(key, after: EndpointSliceController.Limits.batchTime)
      }
    }
  }

  func run() async { await reconciler.run() }

  private static func reconcile(_ key: ObjectKey, _ context: ControllerContext) async throws {
    let current = context.endpoints.get(key)
    guard let object = context.services.get(key) else {
      // Endpoints have no owner; those that this controller made go with their Service.
      guard let current, AnyObjectView(current).annotations[managedKey] != nil else { return }
      do {
        try await context.client.delete(
          .endpoints, namespace: key.namespace, name: key.name, uid: AnyObjectView(current).uid)
      } catch let error as StatusError where error.code == 404 {}
      return
    }
    let service = ServiceView(object)
    guard !service.selector.isEmpty, service.type != "ExternalName", !service.isBeingDeleted else {
      return
    }
    let pods = context.pods.list(index: ControllerContext.byNamespace, key.namespace)
    guard let wanted = decide(service, pods: pods.map(PodView.init), current: current) else {
      return
    }
    do {
      if current == nil {
        try await context.client.create(.endpoints, namespace: key.namespace, wanted)
      } else {
        try await context.client.update(.endpoints, wanted)
      }
    } catch let error as StatusError where error.isTerminating {}
  }

  /// Marks Endpoints that follow a selector.
  static let managedKey = "endpoints.kubernetes.io/last-change-trigger-time"

  /// The Endpoints to write; nil if those that there are are right.
  ///
  /// - Parameter pods: those of the Service's namespace.
  static func decide(_ service: ServiceView, pods: [PodView], current: Value?) -> Value? {
    let isV6 = ServiceEndpoints.isV6(service)
    let publishesAll = service.object["spec"]["publishNotReadyAddresses"] == true
    var subsets: [(ports: [Value], ready: [Value], unready: [Value])] = []
    var count = 0
    var newest: Timestamp?
    for pod in ServiceEndpoints.candidates(service, pods)
    where publishesAll || !pod.isBeingDeleted {
      let addresses = ServiceEndpoints.addresses(of: pod).filter { IPAddress.isV6($0) == isV6 }
      guard let address = addresses.first else { continue }
      var ports = ServiceEndpoints.ports(service, pod)
      if ports.isEmpty, !service.ports.isEmpty { continue }
      for index in ports.indices where ports[index]["name"].isEmpty { ports[index].remove("name") }
      count += 1
      if count > capacity { continue }
      var entry: Value = ["ip": Value(address), "targetRef": ServiceEndpoints.target(pod)]
      if !pod.nodeName.isEmpty { entry["nodeName"] = Value(pod.nodeName) }
      if let name = ServiceEndpoints.hostname(service, pod) { entry["hostname"] = Value(name) }
      let changed = pod.condition("Ready")?["lastTransitionTime"].timestamp ?? pod.creationTime
      newest = [newest, changed].compactMap { $0 }.max()
      let index: Int
      if let known = subsets.firstIndex(where: { $0.ports == ports }) {
        index = known
      } else {
        subsets.append((ports, [], []))
        index = subsets.count - 1
      }
      if publishesAll || pod.isReady {
        subsets[index].ready.append(entry)
      } else {
        subsets[index].unready.append(entry)
      }
    }
    let value: [Value] = subsets.map { subset in
      var result: Value = [:]
      for (name, addresses) in [
        ("addresses", subset.ready), ("notReadyAddresses", subset.unready),
      ] where !addresses.isEmpty {
        result[name] = .array(
          addresses.sorted { ($0["ip"].string ?? "") < ($1["ip"].string ?? "") })
      }
      if !subset.ports.isEmpty { result["ports"] = .array(subset.ports) }
      return result
    }
    return object(
      service, subsets: value, isTruncated: count > capacity, changed: newest, current)
  }

  private static func object(
    _ service: ServiceView, subsets: [Value], isTruncated: Bool, changed: Timestamp?,
    _ current: Value?
  ) -> Value? {
    var labels = service.labels.isNull ? [:] : service.labels
    if service.isHeadless { labels["service.kubernetes.io/headless"] = "" }
    let note: Value = isTruncated ? "truncated" : .null
    if let current, current["subsets"].elements == subsets,
      AnyObjectView(current).labels == (labels.isEmpty ? .null : labels),
      AnyObjectView(current).annotations[overCapacityKey] == note
    {
      return nil
    }
    var object: Value =
      current ?? [
        "kind": "Endpoints", "apiVersion": "v1",
        "metadata": ["name": Value(service.name), "namespace": Value(service.namespace)],
      ]
    object["metadata"]["labels"] = labels.isEmpty ? .null : labels
    object["metadata"]["annotations"][managedKey] = Value(
      changed ?? service.creationTime ?? .distantPast)
    object["metadata"]["annotations"][overCapacityKey] = note
    object["subsets"] = subsets.isEmpty ? .null : .array(subsets)
    return object
  }
}
