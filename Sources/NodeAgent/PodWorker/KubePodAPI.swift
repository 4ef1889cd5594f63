import KubeAPI
import KubeClient

/// ``PodAPI`` on the API server.
final class KubePodAPI: PodAPI {
  private let client: APIClient
  private let recorder: EventRecorder
  private let allServices: Informer
  private let references: ReferencedObjects

  /// - Parameter services: all services; somebody else runs it.
  init(
    client: APIClient, recorder: EventRecorder, services: Informer, references: ReferencedObjects
  ) {
    self.client = client
    self.recorder = recorder
    allServices = services
    self.references = references
  }

  func services() async -> [Value] {
    await allServices.waitUntilSynced()
    return allServices.list()
  }

  /// The services that are known by now.
  func knownServices() -> [Value] { allServices.list() }

  func follow(
    _ references: Set<ObjectReference>, for pod: PodManifest,
    changed: @escaping @Sendable () -> Void
  ) {
    self.references.follow(references, pod: pod.uid, changed: changed)
  }

  func token(
    audience: String?, seconds: Int64, for pod: PodManifest
  ) async throws -> (token: String, renewAt: Timestamp)? {
    var request: Value = [
      "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
      "spec": [
        "expirationSeconds": Value(seconds),
        "boundObjectRef": [
          "apiVersion": "v1", "kind": "Pod", "name": Value(pod.name), "uid": Value(pod.uid),
        ],
      ],
    ]
    if let audience { request["spec"]["audiences"] = [Value(audience)] }
    let account = pod.object["spec"]["serviceAccountName"].string ?? "default"
    let answer: Value
    do {
      answer = try await client.create(
        .serviceAccounts, namespace: pod.namespace, request, name: account, subresource: "token")
    } catch let error as StatusError where error.code == 501 || error.code == 405 {
      return nil
    }
    guard let token = answer["status"]["token"].string else { return nil }
    // As Kubernetes does: once four fifths of its life are over, and at least daily.
    let now = Timestamp.wallClock()
    let life = answer["status"]["expirationTimestamp"].timestamp?.since(now) ?? .seconds(seconds)
    let wait = min(life.components.seconds * 4 / 5, 24 * 3_600)
    return (token, now.adding(.seconds(max(60, wait))))
  }

  func configMap(namespace: String, name: String) async throws -> Value? {
    try await find(.configMaps, namespace, name, kind: "ConfigMap")
  }

  func secret(namespace: String, name: String) async throws -> Value? {
    try await find(.secrets, namespace, name, kind: "Secret")
  }

  private func find(
    _ type: ResourceType, _ namespace: String, _ name: String, kind: String
  ) async throws -> Value? {
    do {
      var object = try await client.get(type, namespace: namespace, name: name)
      object.setDefault("kind", to: Value(kind))
      return object
    } catch let error as StatusError where error.code == 404 {
      return nil
    }
  }

  func publish(_ status: Value, of pod: PodManifest) async throws -> Value? {
    do {
      // The uid makes the patch fail on another pod that has got the same name.
      return try await client.patch(
        .pods, namespace: pod.namespace, name: pod.name, .merge,
        ["metadata": ["uid": Value(pod.uid)], "status": status], subresource: "status")
    } catch let error as StatusError where error.code == 404 {
      return nil
    } catch let error as StatusError where error.code == 409 || error.code == 422 {
      // Another pod of that name, or a rule of the API that our status breaks: only the object tells.
      let current = try await client.get(.pods, namespace: pod.namespace, name: pod.name)
      if current["metadata"]["uid"].string != pod.uid { return nil }
      throw error
    }
  }

  func delete(_ pod: PodManifest) async throws {
    do {
      try await client.delete(
        .pods, namespace: pod.namespace, name: pod.name, uid: pod.uid, graceSeconds: 0)
    } catch let error as StatusError where error.code == 404 || error.code == 409 {
      // Gone, or another pod of that name.
    }
  }

  func announce(_ announcement: PodLifecycle.Announcement, about pod: PodManifest) {
    var field = ""
    if !announcement.container.isEmpty {
      let isInit = pod.initContainers.contains { $0.name == announcement.container }
      field = "spec.\(isInit ? "initContainers" : "containers"){\(announcement.container)}"
    }
    var object = pod.object
    object.setDefault("kind", to: "Pod")
    object.setDefault("apiVersion", to: "v1")
    recorder.record(
      object, announcement.isWarning ? .warning : .normal, reason: announcement.reason,
      message: announcement.message, field: field)
  }
}
