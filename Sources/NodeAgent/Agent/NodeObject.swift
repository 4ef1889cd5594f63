import Glibc
import KubeAPI

/// What a machine is, for its Node object.
public struct MachineFacts: Sendable, Equatable {
  public var processors: Int
  public var memoryBytes: Int64
  public var availableMemoryBytes: Int64
  /// Of the file system that holds pods and images.
  public var storageBytes: Int64
  public var availableStorageBytes: Int64
  public var hostname: String
  public var addresses: [String]
  public var kernelVersion: String
  public var osImage: String
  public var machineID: String
  public var bootID: String
  public var architecture: String

  public init(
    processors: Int, memoryBytes: Int64, availableMemoryBytes: Int64, storageBytes: Int64,
    availableStorageBytes: Int64, hostname: String, addresses: [String], kernelVersion: String,
    osImage: String, machineID: String, bootID: String, architecture: String
  ) {
    self.processors = processors
    self.memoryBytes = memoryBytes
    self.availableMemoryBytes = availableMemoryBytes
    self.storageBytes = storageBytes
    self.availableStorageBytes = availableStorageBytes
    self.hostname = hostname
    self.addresses = addresses
    self.kernelVersion = kernelVersion
    self.osImage = osImage
    self.machineID = machineID
    self.bootID = bootID
    self.architecture = architecture
  }

  /// Reads them from the machine.
  static func read(directory: String, addresses: [String]) -> MachineFacts {
    var name = utsname()
    uname(&name)
    let storage = Disk.capacity(of: directory)
    let release = (try? Disk.read("/etc/os-release")).map { String(decoding: $0, as: UTF8.self) }
    let pretty = release?.split(separator: "\n").first { $0.hasPrefix("PRETTY_NAME=") }
    return MachineFacts(
      processors: Machine.processors, memoryBytes: Machine.memoryBytes,
      availableMemoryBytes: Machine.availableMemoryBytes, storageBytes: storage?.total ?? 0,
      availableStorageBytes: storage?.available ?? 0, hostname: Machine.hostname,
      addresses: addresses,
      kernelVersion: withUnsafePointer(to: &name.release) {
        $0.withMemoryRebound(to: CChar.self, capacity: 65) { String(cString: $0) }
      },
      osImage: pretty.map { $0.dropFirst(12).filter { $0 != "\"" } } ?? "Linux",
      machineID: Disk.readLine("/etc/machine-id") ?? "", bootID: Machine.bootID,
      architecture: Machine.architecture)
  }
}

/// Builds the Node object of this machine. Pure.
struct NodeObject: Sendable {
  let name: String
  let port: Int
  let runtimeVersion: String
  /// The Kubernetes version whose behaviour the agent has.
  let version: String
  let images: [Image]
  /// The addresses of the node's pods.
  var podBlock: IPv4Block?

  enum Limits {
    /// As in Kubernetes.
    static let pods = 110
    /// Below this much available memory the node is under pressure, in bytes.
    static let memoryBytes: Int64 = 100 << 20
    /// Below this share of free storage the node is under pressure, in percent.
    static let storagePercent: Int64 = 10
    /// Most images that the status lists.
    static let images = 50
  }

  /// Labels that every node has.
  func labels(_ facts: MachineFacts) -> Value {
    [
      "beta.kubernetes.io/arch": Value(facts.architecture), "beta.kubernetes.io/os": "linux",
      "kubernetes.io/arch": Value(facts.architecture),
      "kubernetes.io/hostname": Value(name), "kubernetes.io/os": "linux",
    ]
  }

  /// The whole object, to register with.
  func object(_ facts: MachineFacts, now: Timestamp) -> Value {
    var spec: Value = [:]
    if let podBlock {
      spec["podCIDR"] = Value(podBlock.description)
      spec["podCIDRs"] = [Value(podBlock.description)]
    }
    return [
      "apiVersion": "v1", "kind": "Node",
      "metadata": ["name": Value(name), "labels": labels(facts)],
      "spec": spec,
      "status": status(facts, previous: .null, now: now),
    ]
  }

  /// - Parameter previous: the status in the API, for times of transitions.
  func status(_ facts: MachineFacts, previous: Value, now: Timestamp) -> Value {
    let capacity = resources(facts, memory: facts.memoryBytes)
    // Something for the system itself: a twentieth of the memory, at most 512 MiB.
    let reserved = min(facts.memoryBytes / 20, 512 << 20)
    return [
      "capacity": capacity,
      "allocatable": resources(facts, memory: facts.memoryBytes - reserved),
      "conditions": conditions(facts, previous: previous, now: now),
      "addresses": .array(
        facts.addresses.map { ["type": "InternalIP", "address": Value($0)] }
          + [["type": "Hostname", "address": Value(facts.hostname)]]),
      "daemonEndpoints": ["kubeletEndpoint": ["Port": Value(port)]],
      "nodeInfo": [
        "machineID": Value(facts.machineID), "systemUUID": Value(facts.machineID),
        "bootID": Value(facts.bootID), "kernelVersion": Value(facts.kernelVersion),
        "osImage": Value(facts.osImage), "containerRuntimeVersion": Value(runtimeVersion),
        "kubeletVersion": Value(version), "kubeProxyVersion": Value(version),
        "operatingSystem": "linux", "architecture": Value(facts.architecture),
      ],
      "images": .array(
        images.prefix(Limits.images).map { image in
          [
            "names": Value([image.repositoryDigest] + image.names), "sizeBytes": Value(image.size),
          ]
        }),
    ]
  }

  private func resources(_ facts: MachineFacts, memory: Int64) -> Value {
    [
      "cpu": Value("\(facts.processors)"), "memory": Value("\(memory / 1024)Ki"),
      "ephemeral-storage": Value("\(facts.storageBytes / 1024)Ki"), "pods": Value("\(Limits.pods)"),
      "hugepages-2Mi": "0",
    ]
  }

  private func conditions(_ facts: MachineFacts, previous: Value, now: Timestamp) -> Value {
    func condition(_ type: String, _ isTrue: Bool, _ reason: String, _ message: String) -> Value {
      let text = isTrue ? "True" : "False"
      let old = previous["conditions"].elements.first { $0["type"].string == type }
      return [
        "type": Value(type), "status": Value(text), "lastHeartbeatTime": Value(now),
        "lastTransitionTime": old?["status"].string == text
          ? old?["lastTransitionTime"] ?? Value(now) : Value(now),
        "reason": Value(reason), "message": Value(message),
      ]
    }
    let hasMemoryPressure = facts.availableMemoryBytes < Limits.memoryBytes
    let hasDiskPressure =
      facts.availableStorageBytes < facts.storageBytes / 100 * Limits.storagePercent
    let own = [
      hasMemoryPressure
        ? condition(
          "MemoryPressure", true, "KubeletHasInsufficientMemory",
          "kubelet has insufficient memory available")
        : condition(
          "MemoryPressure", false, "KubeletHasSufficientMemory",
          "kubelet has sufficient memory available"),
      hasDiskPressure
        ? condition("DiskPressure", true, "KubeletHasDiskPressure", "kubelet has disk pressure")
        : condition(
          "DiskPressure", false, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
      condition(
        "PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
      condition("Ready", true, "KubeletReady", "kubelet is posting ready status"),
    ]
    let types = Set(own.compactMap { $0["type"].string })
    let foreign = previous["conditions"].elements.filter {
      !types.contains($0["type"].string ?? "")
    }
    return .array(own + foreign)
  }
}
