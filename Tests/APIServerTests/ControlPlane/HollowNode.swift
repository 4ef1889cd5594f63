import Foundation
import KubeAPI
import KubeClient
import Logging
import Synchronization

/// A node that runs nothing and says that it does: what the control plane sees of a real one.
///
/// Its pods run and are ready as soon as they are bound. The image decides what becomes of them: `succeed` ends
/// well, `fail` ends badly (`fail:3` with that code), `unready` never becomes ready.
final class HollowNode: Sendable {
  let name: String
  private let number: Int
  private let client: APIClient
  private let pods: Informer
  private let nextAddress = Mutex(1)

  init(number: Int, client: APIClient, log: Logger) {
    name = "node-\(number)"
    self.number = number
    self.client = client
    pods = Informer(.pods, client: client, fieldSelector: "spec.nodeName=\(name)", log: log)
  }

  func run() async {
    await register()
    let queue = WorkQueue<ObjectKey>()
    pods.addHandler { queue.add(ObjectKey($0.object)) }
    var quiet = Logger(label: "hollow")
    quiet.logLevel = .critical
    let reconciler = Reconciler(name: "hollow", queue: queue, workers: 4, log: quiet) {
      [self] in try await live($0)
    }
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await self.pods.run() }
      group.addTask { await reconciler.run() }
      group.addTask { await self.heartbeat() }
    }
  }

  private func register() async {
    let node: Value = [
      "kind": "Node", "apiVersion": "v1",
      "metadata": [
        "name": Value(name),
        "labels": [
          "kubernetes.io/hostname": Value(name), "kubernetes.io/os": "linux",
          "topology.kubernetes.io/zone": number % 2 == 1 ? "east" : "west",
        ],
      ],
      "status": [
        "capacity": ["cpu": "4", "memory": "8Gi", "pods": "110"],
        "conditions": [["type": "Ready", "status": "True", "reason": "KubeletReady"]],
        "addresses": [["type": "InternalIP", "address": Value("192.168.0.\(number)")]],
      ],
    ]
    while !Task.isCancelled {
      do {
        try await client.create(.nodes, node)
        return
      } catch let error as StatusError where error.reason == .alreadyExists {
        return
      } catch { try? await Task.sleep(for: .milliseconds(50)) }
    }
  }

  private func heartbeat() async {
    while !Task.isCancelled {
      let lease: Value = [
        "kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
        "metadata": ["name": Value(name), "namespace": "kube-node-lease"],
        "spec": [
          "holderIdentity": Value(name), "leaseDurationSeconds": 40,
          "renewTime": Value(Timestamp.now.microDescription),
        ],
      ]
      _ = try? await client.create(.leases, namespace: "kube-node-lease", lease)
      try? await Task.sleep(for: .seconds(10))
      _ = try? await client.patch(
        .leases, namespace: "kube-node-lease", name: name, .merge,
        ["spec": ["renewTime": Value(Timestamp.now.microDescription)]])
    }
  }

  private func live(_ key: ObjectKey) async throws {
    guard let object = pods.get(key) else { return }
    let pod = PodView(object)
    if pod.isBeingDeleted {
      if !pod.isFinished, !pod.finalizers.isEmpty { try await end(pod, code: 137) }
      do {
        try await client.delete(
          .pods, namespace: key.namespace, name: key.name, uid: pod.uid, graceSeconds: 0)
      } catch let error as StatusError where error.code == 404 || error.code == 409 {}
      return
    }
    guard !pod.isFinished else { return }
    let image = ImageReference(pod.containers.first?["image"].string ?? "")
    if pod.phase == .pending { return try await start(pod, isReady: image.repository != "unready") }
    switch image.repository {
    case "succeed": try await end(pod, code: 0)
    case "fail": try await end(pod, code: image.tag.flatMap { Int64($0) } ?? 1)
    default: break
    }
  }

  private func start(_ pod: PodView, isReady: Bool) async throws {
    let address = nextAddress.withLock { next in
      defer { next += 1 }
      return "10.244.\(number).\(next)"
    }
    let now = Value(Timestamp.now)
    let ready: Value = isReady ? "True" : "False"
    try await patch(
      pod,
      [
        "phase": "Running", "podIP": Value(address), "podIPs": [["ip": Value(address)]],
        "hostIP": Value("192.168.0.\(number)"), "startTime": now,
        "conditions": [
          ["type": "Ready", "status": ready, "lastTransitionTime": now],
          ["type": "ContainersReady", "status": ready, "lastTransitionTime": now],
          ["type": "Initialized", "status": "True", "lastTransitionTime": now],
        ],
        "containerStatuses": .array(
          pod.containers.map { container in
            [
              "name": container["name"], "image": container["image"], "imageID": "",
              "ready": Value(isReady), "restartCount": 0, "started": true,
              "state": ["running": ["startedAt": now]],
            ]
          }),
      ])
  }

  private func end(_ pod: PodView, code: Int64) async throws {
    let now = Value(Timestamp.now)
    try await patch(
      pod,
      [
        "phase": code == 0 ? "Succeeded" : "Failed",
        "conditions": [
          ["type": "Ready", "status": "False", "lastTransitionTime": now],
          ["type": "ContainersReady", "status": "False", "lastTransitionTime": now],
        ],
        "containerStatuses": .array(
          pod.containers.map { container in
            [
              "name": container["name"], "image": container["image"], "imageID": "",
              "ready": false, "restartCount": 0, "started": false,
              "state": [
                "terminated": [
                  "exitCode": Value(code), "reason": code == 0 ? "Completed" : "Error",
                  "finishedAt": now,
                ]
              ],
            ]
          }),
      ])
  }

  private func patch(_ pod: PodView, _ status: Value) async throws {
    do {
      try await client.patch(
        .pods, namespace: pod.namespace, name: pod.name, .strategicMerge,
        ["metadata": ["uid": Value(pod.uid)], "status": status], subresource: "status")
    } catch let error as StatusError where error.code == 404 || error.code == 409 {}
  }
}
