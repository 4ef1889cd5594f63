import KubeAPI

/// What a pod's worker needs of the API server. Narrow, so that tests can script it.
public protocol PodAPI: Sendable {
  /// A config map or secret; nil if there is none.
  func configMap(namespace: String, name: String) async throws -> Value?
  func secret(namespace: String, name: String) async throws -> Value?

  /// Publishes a pod's whole status and returns the object as it is then.
  ///
  /// - Returns: nil if that pod, identified by its uid, is gone.
  func publish(_ status: Value, of pod: PodManifest) async throws -> Value?

  /// Takes the pod out of the API for good; succeeds if it is gone.
  func delete(_ pod: PodManifest) async throws

  /// Tells an event about the pod. Never fails, never waits.
  func announce(_ announcement: PodLifecycle.Announcement, about pod: PodManifest)
}
