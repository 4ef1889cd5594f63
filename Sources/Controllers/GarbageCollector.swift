import KubeAPI
import KubeClient
import Logging

/// Deletes what has lost its owners.
///
/// Every object may name owners. When the last of them is gone, the object goes too (background
/// deletion, the default). An owner that is deleted with the finalizer `foregroundDeletion` waits for its
/// dependents; one with `orphan` has the references to it removed instead. An owner counts as gone only
/// after the API server itself has said so, and a dependent goes only in the version that was judged: a
/// cache that lags would cost living objects.
/// Source: Kubernetes, "Garbage Collection".
struct GarbageCollector: Sendable {
  /// Which object, of which type.
  private struct Reference: Hashable, Sendable, CustomStringConvertible {
    var type: ResourceType
    var key: ObjectKey
    var description: String { "\(type.plural) \(key)" }
  }

  private static let byOwner = "owner"
  private let informers: [Informer]
  private let reconciler: Reconciler<Reference>

  init(_ context: ControllerContext) {
    // What has dependents or is one; each kind that the API server stores, Events and Leases apart.
    var seen: Set<String> = []
    let types = Scheme.builtIn.resources
      .filter { $0.verbs.contains("watch") && $0.verbs.contains("delete") }
      .filter { !["events", "leases"].contains($0.plural) }
      .filter { seen.insert($0.storagePrefix).inserted }
      .map { ResourceType($0.kind, plural: $0.plural, isNamespaced: $0.isNamespaced) }
    // A kind that a controller watches anyway is not watched twice.
    let shared = context.informers.filter { $0.type != .leases }
    let informers = types.map { type in
      shared.first { $0.type == type }
        ?? Informer(type, client: context.client, log: context.log)
    }
    self.informers = informers
    self.ownInformers = informers.filter { informer in !shared.contains { $0 === informer } }
    let queue = WorkQueue<Reference>()
    // An owner that waits for its dependents looks again.
    @Sendable func enqueueOwners(of object: AnyObjectView) {
      for owner in object.ownerReferences {
        guard let owners = informers.first(where: { $0.type.kind.kind == owner.kind }) else {
          continue
        }
        let namespace = owners.type.isNamespaced ? object.namespace : ""
        queue.add(
          Reference(type: owners.type, key: ObjectKey(namespace: namespace, name: owner.name)))
      }
    }
    for informer in informers {
      informer.addIndex(Self.byOwner) { AnyObjectView($0).ownerReferences.map(\.uid) }
      let type = informer.type
      informer.addHandler { change in
        let object = AnyObjectView(change.object)
        if case .deleted = change {
          for dependents in informers {
            for dependent in dependents.list(index: Self.byOwner, object.uid) {
              queue.add(Reference(type: dependents.type, key: ObjectKey(dependent)))
            }
          }
          enqueueOwners(of: object)
          return
        }
        if case .updated(let old, let new) = change {
          if old["metadata"]["ownerReferences"] != new["metadata"]["ownerReferences"] {
            enqueueOwners(of: AnyObjectView(old))
          } else if !object.isBeingDeleted {
            // Judged when it came; should an owner go, that one's deletion tells.
            return
          }
        }
        if !object.ownerReferences.isEmpty || object.isBeingDeleted {
          queue.add(Reference(type: type, key: ObjectKey(change.object)))
        }
      }
    }
    reconciler = Reconciler(name: "garbage", queue: queue, workers: 4, log: context.log) { item in
      try await Self.reconcile(item, informers, queue, context)
    }
  }

  private let ownInformers: [Informer]

  func runInformers() async {
    await withTaskGroup(of: Void.self) { group in
      for informer in ownInformers { group.addTask { await informer.run() } }
    }
  }

  func run() async {
    for informer in informers { await informer.waitUntilSynced() }
    await reconciler.run()
  }

  private static func reconcile(
    _ item: Reference, _ informers: [Informer], _ queue: WorkQueue<Reference>,
    _ context: ControllerContext
  ) async throws {
    guard let informer = informers.first(where: { $0.type == item.type }),
      let object = informer.get(item.key)
    else { return }
    let view = AnyObjectView(object)
    if view.isBeingDeleted {
      if view.finalizers.contains("orphan") {
        try await orphanDependents(of: view, informers, context)
        try await removeFinalizer("orphan", item, view, context)
      } else if view.finalizers.contains("foregroundDeletion") {
        if releaseBlocks(of: view, informers, queue) {
          try await removeFinalizer("foregroundDeletion", item, view, context)
        }
      }
      return
    }
    let owners = view.ownerReferences
    guard !owners.isEmpty else { return }
    var states: [(owner: OwnerReference, state: OwnerState)] = []
    for owner in owners {
      states.append((owner, try await state(of: owner, of: view, informers, context)))
    }
    let namespace = item.type.isNamespaced ? item.key.namespace : nil
    if states.contains(where: { $0.state == .exists }) {
      // It lives on for that owner's sake; the others needn't wait for it.
      let ending = states.filter { $0.state != .exists }
      guard !ending.isEmpty else { return }
      try await context.client.patch(
        item.type, namespace: namespace, name: item.key.name, .strategicMerge,
        [
          "metadata": [
            "uid": Value(view.uid),
            "ownerReferences": .array(
              ending.map { ["$patch": "delete", "uid": Value($0.owner.uid)] }),
          ]
        ])
      return
    }
    let isAwaited = states.contains { $0.state == .waitsForDependents }
    do {
      // Only as it was judged: it may have found another owner meanwhile.
      try await context.client.delete(
        item.type, namespace: namespace, name: item.key.name, uid: view.uid,
        resourceVersion: view.resourceVersion,
        propagation: isAwaited && hasDependents(view, informers) ? "Foreground" : "Background")
    } catch let error as StatusError where error.code == 404 {}
  }

  private enum OwnerState { case exists, waitsForDependents, gone }

  private static func state(
    of owner: OwnerReference, of dependent: AnyObjectView, _ informers: [Informer],
    _ context: ControllerContext
  ) async throws -> OwnerState {
    guard
      let informer = informers.first(where: {
        $0.type.kind.kind == owner.kind && $0.type.kind.apiVersion == owner.apiVersion
      })
    else { return .exists }  // A kind that isn't known can't be judged.
    let namespace = informer.type.isNamespaced ? dependent.namespace : ""
    // References without a uid, or from outside all namespaces into one, name nothing that could be looked up.
    if owner.uid.isEmpty || informer.type.isNamespaced && namespace.isEmpty { return .exists }
    var found = informer.get(namespace: namespace, name: owner.name)
    if found.map({ AnyObjectView($0).uid != owner.uid }) ?? true {
      do {
        found = try await context.client.get(
          informer.type, namespace: informer.type.isNamespaced ? namespace : nil, name: owner.name)
      } catch let error as StatusError where error.code == 404 {
        found = nil
      }
    }
    guard let found, AnyObjectView(found).uid == owner.uid else { return .gone }
    let view = AnyObjectView(found)
    return view.isBeingDeleted && view.finalizers.contains("foregroundDeletion")
      ? .waitsForDependents : .exists
  }

  private static func hasDependents(_ view: AnyObjectView, _ informers: [Informer]) -> Bool {
    informers.contains { !$0.list(index: byOwner, view.uid).isEmpty }
  }

  /// Has every dependent looked at, which deletes it if it has no other owner; true once nothing blocks
  /// the owner.
  private static func releaseBlocks(
    of owner: AnyObjectView, _ informers: [Informer], _ queue: WorkQueue<Reference>
  ) -> Bool {
    var isFree = true
    for informer in informers {
      for dependent in informer.list(index: byOwner, owner.uid).map(AnyObjectView.init) {
        if dependent.ownerReferences.contains(where: { $0.uid == owner.uid && $0.blocksDeletion }) {
          isFree = false
        }
        if !dependent.isBeingDeleted {
          queue.add(Reference(type: informer.type, key: ObjectKey(dependent.object)))
        }
      }
    }
    return isFree
  }

  private static func orphanDependents(
    of owner: AnyObjectView, _ informers: [Informer], _ context: ControllerContext
  ) async throws {
    for informer in informers {
      for dependent in informer.list(index: byOwner, owner.uid).map(AnyObjectView.init) {
        try await Adoption.release(dependent.object, informer.type, from: owner.uid, context)
      }
    }
  }

  private static func removeFinalizer(
    _ finalizer: String, _ item: Reference, _ view: AnyObjectView, _ context: ControllerContext
  ) async throws {
    do {
      try await context.client.patch(
        item.type, namespace: item.type.isNamespaced ? item.key.namespace : nil,
        name: item.key.name, .merge,
        [
          "metadata": [
            "resourceVersion": Value(view.resourceVersion),
            "finalizers": Value(view.finalizers.filter { $0 != finalizer }),
          ]
        ])
    } catch let error as StatusError where error.code == 404 {}
  }
}
