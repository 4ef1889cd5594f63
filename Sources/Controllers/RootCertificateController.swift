import KubeAPI
import KubeClient

/// Gives every namespace the ConfigMap `kube-root-ca.crt`, by which pods know the API server.
struct RootCertificateController: Sendable {
  private let reconciler: Reconciler<ObjectKey>

  static let name = "kube-root-ca.crt"
  private static let descriptionKey = "kubernetes.io/description"

  init(_ context: ControllerContext) {
    let queue = WorkQueue<ObjectKey>()
    reconciler = Reconciler(
      name: "root-ca-cert-publisher", queue: queue, workers: 1, log: context.log
    ) { try await Self.reconcile($0, context) }
    guard context.rootCertificates != nil else { return }
    context.namespaces.addHandler { queue.add(ObjectKey($0.object)) }
    context.configMaps.addHandler { change in
      let map = AnyObjectView(change.object)
      if map.name == Self.name { queue.add(ObjectKey(namespace: "", name: map.namespace)) }
    }
  }

  func run() async { await reconciler.run() }

  private static func reconcile(_ key: ObjectKey, _ context: ControllerContext) async throws {
    guard let certificates = context.rootCertificates,
      let namespace = context.namespaces.get(key), !AnyObjectView(namespace).isBeingDeleted
    else { return }
    let wanted: Value = ["ca.crt": Value(certificates)]
    let current = context.configMaps.get(namespace: key.name, name: name)
    guard current?["data"] != wanted else { return }
    let map: Value = [
      "kind": "ConfigMap", "apiVersion": "v1",
      "metadata": [
        "name": Value(name), "namespace": Value(key.name),
        "annotations": [
          descriptionKey: Value(
            "Contains a CA bundle that can be used to verify the kube-apiserver when using internal "
              + "endpoints such as the internal service IP or kubernetes.default.svc. No other usage "
              + "is guaranteed across distributions of Kubernetes clusters.")
        ],
      ],
      "data": wanted,
    ]
    do {
      if current == nil {
        try await context.client.create(.configMaps, namespace: key.name, map)
      } else {
        try await context.client.update(.configMaps, map)
      }
    } catch let error as StatusError
      where error.reason == .alreadyExists || error.code == 404 || error.isTerminating
    {}
  }
}
