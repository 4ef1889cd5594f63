import KubeAPI
import KubeClient

/// Taking over objects that have lost their controller, and letting go of others.
enum Adoption {
  /// Whether `owner` still lives, by the API server's own word.
  ///
  /// A cache may still show an owner that was deleted and its dependents orphaned; adopting them for it
  /// would hand them to the garbage collector.
  static func isPossible(
    by owner: Value, _ type: ResourceType, _ context: ControllerContext
  ) async throws -> Bool {
    let view = AnyObjectView(owner)
    do {
      let current = AnyObjectView(
        try await context.client.get(type, namespace: view.namespace, name: view.name))
      return current.uid == view.uid && !current.isBeingDeleted
    } catch let error as StatusError where error.code == 404 {
      return false
    }
  }

  /// Makes `owner` the controller of `object`, if that is still there.
  static func adopt(
    _ object: Value, _ type: ResourceType, by owner: Value, _ context: ControllerContext
  ) async throws {
    try await patch(
      object, type, [OwnerReference(controller: owner).value], context)
  }

  /// Makes `object` an orphan of the owner with this uid.
  static func release(
    _ object: Value, _ type: ResourceType, from uid: String, _ context: ControllerContext
  ) async throws {
    try await patch(object, type, [["$patch": "delete", "uid": Value(uid)]], context)
  }

  private static func patch(
    _ object: Value, _ type: ResourceType, _ references: Value, _ context: ControllerContext
  ) async throws {
    let view = AnyObjectView(object)
    do {
      try await context.client.patch(
        type, namespace: type.isNamespaced ? view.namespace : nil, name: view.name, .strategicMerge,
        ["metadata": ["uid": Value(view.uid), "ownerReferences": references]])
    } catch let error as StatusError where error.code == 404 {}
  }
}
