import KubeAPI

/// What a pod's worker needs of the API server. Narrow, so that tests can script it.
public protocol PodAPI: Sendable {
  /// A config map or secret; nil if there is none.
  func configMap(namespace: String, name: String) async throws -> Value?
  func secret(namespace: String, name: String) async throws -> Value?

  /// All services of the cluster, as the node knows them.
  func services() async -> [Value]

  /// A token by which the pod's containers are its service account, and when to get the next one; nil
  /// where the API server gives none.
  func token(
    audience: String?, seconds: Int64, for pod: PodManifest
  ) async throws -> (token: String, renewAt: Timestamp)?

  /// Calls `changed` whenever one of these objects changes. Replaces what the pod followed before.
  func follow(
    _ references: Set<ObjectReference>, for pod: PodManifest,
    changed: @escaping @Sendable () -> Void)

  /// Publishes a pod's whole status and returns the object as it is then.
  ///
  /// - Returns: nil if that pod, identified by its uid, is gone.
  func publish(_ status: Value, of pod: PodManifest) async throws -> Value?

  /// Takes the pod out of the API for good; succeeds if it is gone.
  func delete(_ pod: PodManifest) async throws

  /// Tells an event about the pod. Never fails, never waits.
  func announce(_ announcement: PodLifecycle.Announcement, about pod: PodManifest)
}
