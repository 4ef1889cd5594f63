import KubeAPI
import KubeClient

/// Gives every namespace its default ServiceAccount, and empties those that are being deleted.
///
/// A namespace that is deleted keeps existing, `Terminating`, until everything in it is gone; then this
/// controller takes the finalizer `kubernetes` away and the API server lets it go.
struct NamespaceController: Sendable {
  private let reconciler: Reconciler<ObjectKey>

  /// How often a namespace that isn't empty yet is looked at again.
  private static let pollInterval = Duration.seconds(1)

  init(_ context: ControllerContext) {
    let queue = WorkQueue<ObjectKey>()
    reconciler = Reconciler(name: "namespace", queue: queue, workers: 2, log: context.log) { key in
      try await Self.reconcile(key, context, queue)
    }
    context.namespaces.addHandler { queue.add(ObjectKey($0.object)) }
    context.serviceAccounts.addHandler { change in
      guard case .deleted(let account) = change, AnyObjectView(account).name == "default" else {
        return
      }
      queue.add(ObjectKey(namespace: "", name: AnyObjectView(account).namespace))
    }
  }

  func run() async { await reconciler.run() }

  private static func reconcile(
    _ key: ObjectKey, _ context: ControllerContext, _ queue: WorkQueue<ObjectKey>
  ) async throws {
    guard let object = context.namespaces.get(key) else { return }
    let namespace = AnyObjectView(object)
    guard namespace.isBeingDeleted else { return try await ensureServiceAccount(key.name, context) }
    // The cache may still show a namespace whose name has a new bearer, and that one's objects live.
    do {
      let current = AnyObjectView(try await context.client.get(.namespaces, name: key.name))
      guard current.uid == namespace.uid else { return }
    } catch let error as StatusError where error.code == 404 { return }
    var isEmpty = true
    for type in namespacedTypes {
      let objects = try await context.client.list(type, namespace: key.name)["items"].elements
      if !objects.isEmpty { isEmpty = false }
      for object in objects where !AnyObjectView(object).isBeingDeleted {
        do {
          try await context.client.delete(
            type, namespace: key.name, name: AnyObjectView(object).name,
            uid: AnyObjectView(object).uid, propagation: "Background")
        } catch let error as StatusError where error.code == 404 || error.code == 409 {}
      }
    }
    guard isEmpty else { return queue.add(key, after: pollInterval) }
    var finalized = object
    finalized["spec"]["finalizers"] = Value(
      object["spec"]["finalizers"].strings.filter { $0 != "kubernetes" })
    try await context.client.create(.namespaces, finalize: finalized)
  }

  private static func ensureServiceAccount(
    _ namespace: String, _ context: ControllerContext
  ) async throws {
    guard context.serviceAccounts.get(namespace: namespace, name: "default") == nil else { return }
    do {
      try await context.client.create(
        .serviceAccounts, namespace: namespace,
        [
          "apiVersion": "v1", "kind": "ServiceAccount",
          "metadata": ["name": "default", "namespace": Value(namespace)],
        ])
    } catch let error as StatusError where error.reason == .alreadyExists {}
  }

  /// Everything that can live in a namespace, one type a stored kind.
  private static let namespacedTypes: [ResourceType] = {
    var seen: Set<String> = []
    return Scheme.builtIn.resources
      .filter { $0.isNamespaced && $0.verbs.contains("delete") && $0.verbs.contains("list") }
      .filter { seen.insert($0.storagePrefix).inserted }
      .map { ResourceType($0.kind, plural: $0.plural, isNamespaced: true) }
  }()
}

extension APIClient {
  /// Writes a namespace's finalizers, through the subresource that alone may.
  fileprivate func create(_ type: ResourceType, finalize namespace: Value) async throws {
    try await update(type, namespace, subresource: "finalize")
  }
}
