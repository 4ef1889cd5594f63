import KubeAPI
import KubeClient

/// Finds the owners to look at when an object changes: the scaffolding that controllers share.
extension ControllerContext {
  /// Hands over the owner's key whenever an object that it controls changes.
  ///
  /// An object without controller may have found its parent: then every owner of its namespace whose selector
  /// matches is handed over.
  ///
  /// - Parameters:
  ///   - selector: an owner's selector; nil where orphans are never adopted.
  ///   - enqueue: called for each owner; owners are named by controller references of `owners`' kind.
  func follow(
    _ owned: Informer, for owners: Informer, selector: (@Sendable (Value) -> LabelSelector)? = nil,
    _ enqueue: @escaping @Sendable (ObjectKey) -> Void
  ) {
    let kind = owners.type.kind.kind
    owned.addHandler { change in
      let object = AnyObjectView(change.object)
      if let owner = object.controller {
        if owner.kind == kind {
          enqueue(ObjectKey(namespace: object.namespace, name: owner.name))
        }
        return
      }
      guard let selector else { return }
      for owner in owners.list(index: Self.byNamespace, object.namespace)
      where selector(owner).matches(object.labels) {
        enqueue(ObjectKey(owner))
      }
    }
  }
}
