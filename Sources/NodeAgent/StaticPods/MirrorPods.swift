import KubeAPI
import KubeClient
import Synchronization

/// What a static pod's worker has instead of the API's pod: a *mirror*, an object in the API that shows the pod
/// and can be neither changed nor deleted for good through it.
///
/// The pod runs whether or not the API server can be reached; then its mirror comes later.
final class MirrorPods: PodAPI {
  enum Limits {
    /// How long after a failure the API is left alone, so that the pod itself isn't held up.
    static let pause: Duration = .seconds(5)
  }

  /// The mirror isn't there now; the next try will make it.
  struct Absent: Error {}

  private let client: APIClient
  private let base: KubePodAPI
  private let nodeName: String
  private let state = Mutex(State())

  private struct State {
    /// Mirrors by the uid of the pod that they show.
    var mirrors: [String: Value] = [:]
    var pausesUntil: ContinuousClock.Instant?
  }

  init(client: APIClient, base: KubePodAPI, nodeName: String) {
    self.client = client
    self.base = base
    self.nodeName = nodeName
  }

  // MARK: Mirrors as the API has them

  /// Takes note of a mirror in the API.
  func note(_ mirror: Value, of uid: String) { state.withLock { $0.mirrors[uid] = mirror } }

  func forget(of uid: String) { state.withLock { $0.mirrors[uid] = nil } }

  /// Removes a mirror at once; succeeds if it is gone.
  func remove(_ mirror: Value) async throws {
    let key = ObjectKey(mirror)
    do {
      try await client.delete(
        .pods, namespace: key.namespace, name: key.name, uid: mirror["metadata"]["uid"].string,
        graceSeconds: 0)
    } catch let error as StatusError where error.code == 404 || error.code == 409 {}
  }

  /// The mirror of a pod, made if there is none.
  private func mirror(of pod: PodManifest) async throws -> Value {
    if let known = state.withLock({ $0.mirrors[pod.uid] }) { return known }
    let node = try await client.get(.nodes, name: nodeName)
    let wanted = Self.mirror(of: pod.object, node: node)
    do {
      let made = try await client.create(.pods, namespace: pod.namespace, wanted)
      note(made, of: pod.uid)
      return made
    } catch let error as StatusError where error.reason == .alreadyExists {
      let found = try await client.get(.pods, namespace: pod.namespace, name: pod.name)
      let annotations = found["metadata"]["annotations"]
      if annotations[StaticManifest.mirrorAnnotation].string == pod.uid {
        note(found, of: pod.uid)
        return found
      }
      // It shows what the file said before. Somebody's own pod of that name is left alone.
      if annotations.has(StaticManifest.mirrorAnnotation) { try await remove(found) }
      throw Absent()
    }
  }

  /// The object to create for a static pod. Pure.
  static func mirror(of pod: Value, node: Value) -> Value {
    var mirror = pod
    mirror["kind"] = "Pod"
    mirror["apiVersion"] = "v1"
    mirror["metadata"]["annotations"][StaticManifest.mirrorAnnotation] = pod["metadata"]["uid"]
    for key in ["uid", "creationTimestamp"] { mirror["metadata"].remove(key) }
    mirror["metadata"]["ownerReferences"] = [
      [
        "apiVersion": "v1", "kind": "Node", "name": node["metadata"]["name"],
        "uid": node["metadata"]["uid"], "controller": true,
      ]
    ]
    mirror.remove("status")
    return mirror
  }

  // MARK: PodAPI

  func publish(_ status: Value, of pod: PodManifest) async throws -> Value? {
    let pauses = state.withLock { $0.pausesUntil.map { ContinuousClock.now < $0 } ?? false }
    if pauses { throw Absent() }
    do {
      let mirror = try await mirror(of: pod)
      guard let published = try await base.publish(status, of: PodManifest(mirror)) else {
        forget(of: pod.uid)
        throw Absent()
      }
      note(published, of: pod.uid)
      var object = pod.object
      object["status"] = published["status"]
      return object
    } catch is Absent {
      throw Absent()
    } catch {
      state.withLock { $0.pausesUntil = ContinuousClock.now + Limits.pause }
      throw error
    }
  }

  func delete(_ pod: PodManifest) async throws {
    guard let mirror = state.withLock({ $0.mirrors.removeValue(forKey: pod.uid) }) else { return }
    try await remove(mirror)
  }

  /// A static pod has no account.
  func token(
    audience: String?, seconds: Int64, for pod: PodManifest
  ) async throws -> (token: String, renewAt: Timestamp)? { nil }

  func services() async -> [Value] { base.knownServices() }

  func configMap(namespace: String, name: String) async throws -> Value? {
    try await base.configMap(namespace: namespace, name: name)
  }

  func secret(namespace: String, name: String) async throws -> Value? {
    try await base.secret(namespace: namespace, name: name)
  }

  func follow(
    _ references: Set<ObjectReference>, for pod: PodManifest,
    changed: @escaping @Sendable () -> Void
  ) { base.follow(references, for: pod, changed: changed) }

  func announce(_ announcement: PodLifecycle.Announcement, about pod: PodManifest) {
    base.announce(announcement, about: pod)
  }
}
