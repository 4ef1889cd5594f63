import KubeAPI
import KubeClient

/// ``PodAPI`` on the API server.
final class KubePodAPI: PodAPI {
  private let client: APIClient
  private let recorder: EventRecorder

  init(client: APIClient, recorder: EventRecorder) {
    self.client = client
    self.recorder = recorder
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
