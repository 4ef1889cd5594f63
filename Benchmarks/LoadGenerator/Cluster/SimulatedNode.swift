import KubeAPI
import KubeClient
import Logging
import Synchronization

/// A node that runs nothing and says that it does: what a control plane sees of a real one.
///
/// It registers, renews its lease, watches the pods that are bound to it and reports each as running with
/// the patch that a real agent sends.
final class SimulatedNode: Sendable {
  /// As Kubernetes' nodes say by default.
  static let mostPods = 110

  let name: String
  private let number: Int
  private let client: APIClient
  private let pods: Informer
  private let nextAddress = Atomic<Int>(1)

  /// - Parameter number: from zero on; names and addresses follow from it.
  init(number: Int, client: APIClient, log: Logger) {
    self.number = number
    self.client = client
    name = "sim-\(number)"
    pods = Informer(.pods, client: client, fieldSelector: "spec.nodeName=\(name)", log: log)
  }

  private var address: String {
    "10.\(200 + number / 65_536).\(number / 256 % 256).\(number % 256)"
  }

  // MARK: Registration

  func register() async throws {
    let now = Value(Timestamp.now)
    func condition(_ type: String, _ status: String, _ reason: String, _ message: String) -> Value {
      [
        "type": Value(type), "status": Value(status), "lastHeartbeatTime": now,
        "lastTransitionTime": now, "reason": Value(reason), "message": Value(message),
      ]
    }
    let amounts: Value = [
      "cpu": "32", "memory": "256Gi", "ephemeral-storage": "1Ti",
      "pods": Value("\(Self.mostPods)"),
    ]
    let node: Value = [
      "kind": "Node", "apiVersion": "v1",
      "metadata": [
        "name": Value(name),
        "labels": [
          "kubernetes.io/hostname": Value(name), "kubernetes.io/os": "linux",
          "kubernetes.io/arch": "amd64",
          "topology.kubernetes.io/zone": Value("zone-\(number % 3)"),
        ],
      ],
      "spec": ["podCIDR": Value("10.\(64 + number / 256).\(number % 256).0/24")],
      "status": [
        "capacity": amounts, "allocatable": amounts,
        "conditions": [
          condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "enough memory"),
          condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "enough disk"),
          condition("PIDPressure", "False", "KubeletHasSufficientPID", "enough process ids"),
          condition("Ready", "True", "KubeletReady", "simulated"),
        ],
        "addresses": [
          ["type": "InternalIP", "address": Value(address)],
          ["type": "Hostname", "address": Value(name)],
        ],
        "nodeInfo": [
          "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "0", "osImage": "none",
          "containerRuntimeVersion": "none://0", "kubeletVersion": "v1.32.0",
          "kubeProxyVersion": "",
          "operatingSystem": "linux", "architecture": "amd64",
        ],
      ],
    ]
    try await client.create(.nodes, node)
    try await client.create(
      .leases, namespace: "kube-node-lease",
      [
        "kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
        "metadata": ["name": Value(name), "namespace": "kube-node-lease"],
        "spec": [
          "holderIdentity": Value(name), "leaseDurationSeconds": 40,
          "renewTime": Value(Timestamp.now.microDescription),
        ],
      ])
  }

  /// Renews the lease until cancelled, beginning at some moment of the first interval.
  func renew(every interval: Duration) async {
    var pause = interval * Double.random(in: 0...1)
    while (try? await Task.sleep(for: pause)) != nil {
      pause = interval
      _ = try? await client.patch(
        .leases, namespace: "kube-node-lease", name: name, .merge,
        ["spec": ["renewTime": Value(Timestamp.now.microDescription)]])
    }
  }

  // MARK: Pods

  /// Follows the node's pods until cancelled; each change is handed to `queue`.
  func follow(_ queue: WorkQueue<Turn>) async {
    pods.addHandler { [self] in queue.add(Turn(node: number, pod: ObjectKey($0.object))) }
    await pods.run()
  }

  /// Brings one pod to where a real agent would have brought it.
  func bringInLine(_ key: ObjectKey) async throws {
    guard let object = pods.get(key) else { return }
    let pod = PodView(object)
    do {
      if pod.isBeingDeleted {
        try await client.delete(
          .pods, namespace: key.namespace, name: key.name, uid: pod.uid, graceSeconds: 0)
      } else if pod.phase == .pending {
        try await client.patch(
          .pods, namespace: key.namespace, name: key.name, .strategicMerge,
          ["metadata": ["uid": Value(pod.uid)], "status": running(pod)], subresource: "status")
      }
    } catch let error as StatusError where error.code == 404 {}
  }

  private func running(_ pod: PodView) -> Value {
    let host = nextAddress.wrappingAdd(1, ordering: .relaxed).oldValue % 254 + 1
    let address = "10.\(64 + number / 256).\(number % 256).\(host)"
    let now = Value(Timestamp.now)
    let conditions: [Value] = [
      "PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady",
    ]
    .map {
      ["type": Value($0), "status": "True", "lastProbeTime": nil, "lastTransitionTime": now]
    }
    return [
      "phase": "Running", "conditions": .array(conditions), "hostIP": Value(self.address),
      "hostIPs": [["ip": Value(self.address)]], "podIP": Value(address),
      "podIPs": [["ip": Value(address)]], "startTime": now,
      "containerStatuses": .array(
        pod.containers.map { container in
          [
            "name": container["name"], "image": container["image"],
            "imageID": "docker.io/library/none@sha256:0", "containerID": "none://\(pod.uid)",
            "ready": true, "started": true, "restartCount": 0,
            "state": ["running": ["startedAt": now]],
          ]
        }),
    ]
  }

  /// One pod's turn.
  struct Turn: Hashable, Sendable {
    var node: Int
    var pod: ObjectKey
  }
}
