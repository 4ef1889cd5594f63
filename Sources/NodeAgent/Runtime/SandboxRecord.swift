import Glibc
import KubeAPI

/// The files of a sandbox, in its directory:
///
/// ```
/// sandbox.json                   what the agent asked for; written once
/// shim.json                      which process is the shim
/// shim.sock                      where the shim listens
/// shim.log                       the shim's own complaints
/// hosts, hostname, resolv.conf   mounted into all containers
/// shm/                           their /dev/shm (seen only in the shim's mount namespace)
/// containers/ID/container.json   what the agent asked for; written once
///               config.json      the OCI runtime configuration
///               status.json      how it stands, written by the shim at each change
///               termination-log  mounted into the container
///               upper/ work/     what the container writes
///               rootfs/          its root (seen only in the shim's mount namespace)
/// ```
enum SandboxFiles {
  static func record(_ directory: String) -> String { directory + "/sandbox.json" }
  static func shim(_ directory: String) -> String { directory + "/shim.json" }
  static let socketName = "shim.sock"
  static func log(_ directory: String) -> String { directory + "/shim.log" }
  static func container(_ directory: String, _ id: ContainerID) -> String {
    "\(directory)/containers/\(id)"
  }
}

/// What the shim of a sandbox must know, and what the agent must know again after a restart.
struct SandboxRecord: Sendable {
  var id: SandboxID
  var uid: String
  var name: String
  var namespace: String
  var attempt: Int
  var createdAt: Timestamp
  var usesHostNetwork: Bool
  var usesHostIPC: Bool
  var usesHostPID: Bool
  var hostname: String
  var address: IPv4Address?
  var gateway: IPv4Address?
  var prefixLength: Int
  var cgroups: Cgroups
  /// The pod's cgroup; its containers' lie below it.
  var cgroupPath: String
  var crunPath: String
  /// crun's own state directory.
  var crunRoot: String
  var layersDirectory: String
  var memoryVolumes: [SandboxConfiguration.MemoryVolume]
  var hostPorts: [HostPort]

  var json: Value {
    var value: Value = [
      "id": Value(id.rawValue), "uid": Value(uid), "name": Value(name),
      "namespace": Value(namespace), "attempt": Value(attempt),
      "createdAt": Value(createdAt.nanosecondText), "hostNetwork": Value(usesHostNetwork),
      "hostIPC": Value(usesHostIPC), "hostPID": Value(usesHostPID), "hostname": Value(hostname),
      "cgroups": Value(cgroups.rawValue), "cgroupPath": Value(cgroupPath),
      "crun": Value(crunPath), "crunRoot": Value(crunRoot), "layers": Value(layersDirectory),
    ]
    if let address, let gateway {
      value["address"] = Value(address.description)
      value["gateway"] = Value(gateway.description)
      value["prefixLength"] = Value(prefixLength)
    }
    for volume in memoryVolumes {
      var entry: Value = ["path": Value(volume.path)]
      if let size = volume.sizeBytes { entry["size"] = Value(size) }
      value["memoryVolumes"].append(entry)
    }
    if !hostPorts.isEmpty { value["hostPorts"] = .array(hostPorts.map(\.json)) }
    return value
  }

  /// Nil if a field is missing: a record of another version, or not a record.
  init?(_ value: Value) {
    guard let id = value["id"].string, let uid = value["uid"].string,
      let name = value["name"].string, let namespace = value["namespace"].string,
      let attempt = value["attempt"].int, let created = value["createdAt"].string,
      let createdAt = try? Timestamp(created), let hostname = value["hostname"].string,
      let cgroups = value["cgroups"].string.flatMap(Cgroups.init(rawValue:)),
      let cgroupPath = value["cgroupPath"].string, let crunPath = value["crun"].string,
      let crunRoot = value["crunRoot"].string, let layers = value["layers"].string
    else { return nil }
    self.id = SandboxID(rawValue: id)
    self.uid = uid
    self.name = name
    self.namespace = namespace
    self.attempt = attempt
    self.createdAt = createdAt
    usesHostNetwork = value["hostNetwork"].bool ?? false
    usesHostIPC = value["hostIPC"].bool ?? false
    usesHostPID = value["hostPID"].bool ?? false
    self.hostname = hostname
    address = value["address"].string.flatMap { IPv4Address($0) }
    gateway = value["gateway"].string.flatMap { IPv4Address($0) }
    prefixLength = value["prefixLength"].int ?? 32
    self.cgroups = cgroups
    self.cgroupPath = cgroupPath
    self.crunPath = crunPath
    self.crunRoot = crunRoot
    layersDirectory = layers
    memoryVolumes = value["memoryVolumes"].elements.compactMap { entry in
      entry["path"].string.map { .init(path: $0, sizeBytes: entry["size"].integer) }
    }
    hostPorts = value["hostPorts"].elements.compactMap { HostPort(json: $0) }
  }

  init(
    _ configuration: SandboxConfiguration, id: SandboxID, createdAt: Timestamp,
    address: IPv4Address?, gateway: IPv4Address?, prefixLength: Int, cgroups: Cgroups,
    cgroupPath: String, crunPath: String, crunRoot: String, layersDirectory: String
  ) {
    self.id = id
    uid = configuration.uid
    name = configuration.name
    namespace = configuration.namespace
    attempt = configuration.attempt
    self.createdAt = createdAt
    usesHostNetwork = configuration.network == .host
    usesHostIPC = configuration.usesHostIPC
    usesHostPID = configuration.usesHostPID
    hostname = configuration.hostname
    self.address = address
    self.gateway = gateway
    self.prefixLength = prefixLength
    self.cgroups = cgroups
    self.cgroupPath = cgroupPath
    self.crunPath = crunPath
    self.crunRoot = crunRoot
    self.layersDirectory = layersDirectory
    memoryVolumes = configuration.memoryVolumes
    hostPorts = configuration.hostPorts
  }
}

/// What the shim must know of a container, and the agent again after a restart.
struct ContainerRecord: Sendable {
  var id: ContainerID
  var name: String
  var attempt: Int
  var backOffStep: Int
  var imageReference: String
  var imageID: String
  var createdAt: Timestamp
  /// The names of the layers' directories, lowest first.
  var layers: [String]
  var cgroupPath: String
  var logPath: String
  var stopSignal: Int32
  /// Whether it has a standard input that can be attached to.
  var hasInput = false
  /// Whether its input ends with the first client that was attached to it.
  var closesInputOnce = false
  var hasTerminal = false

  var json: Value {
    [
      "id": Value(id.rawValue), "name": Value(name), "attempt": Value(attempt),
      "backOffStep": Value(backOffStep), "image": Value(imageReference), "imageID": Value(imageID),
      "createdAt": Value(createdAt.nanosecondText), "layers": Value(layers),
      "cgroupPath": Value(cgroupPath), "logPath": Value(logPath), "stopSignal": Value(stopSignal),
      "input": Value(hasInput), "inputOnce": Value(closesInputOnce), "terminal": Value(hasTerminal),
    ]
  }

  init?(_ value: Value) {
    guard let id = value["id"].string, let name = value["name"].string,
      let attempt = value["attempt"].int, let step = value["backOffStep"].int,
      let image = value["image"].string, let imageID = value["imageID"].string,
      let created = value["createdAt"].string, let createdAt = try? Timestamp(created),
      let cgroupPath = value["cgroupPath"].string, let logPath = value["logPath"].string
    else { return nil }
    self.id = ContainerID(rawValue: id)
    self.name = name
    self.attempt = attempt
    backOffStep = step
    imageReference = image
    self.imageID = imageID
    self.createdAt = createdAt
    layers = value["layers"].strings
    self.cgroupPath = cgroupPath
    self.logPath = logPath
    stopSignal = value["stopSignal"].int.flatMap { Int32(exactly: $0) } ?? SIGTERM
    hasInput = value["input"].bool ?? false
    closesInputOnce = value["inputOnce"].bool ?? false
    hasTerminal = value["terminal"].bool ?? false
  }

  init(
    _ configuration: ContainerConfiguration, id: ContainerID, createdAt: Timestamp,
    cgroupPath: String, stopSignal: Int32
  ) {
    self.id = id
    name = configuration.name
    attempt = configuration.attempt
    backOffStep = configuration.backOffStep
    imageReference = configuration.imageReference
    imageID = configuration.image.repositoryDigest
    self.createdAt = createdAt
    layers = configuration.image.layers.map(\.hex)
    self.cgroupPath = cgroupPath
    logPath = configuration.logPath
    self.stopSignal = stopSignal
    hasInput = configuration.hasInput
    closesInputOnce = configuration.closesInputOnce
    hasTerminal = configuration.hasTerminal
  }

  func status(_ state: ContainerState) -> ContainerStatus {
    ContainerStatus(
      id: id, name: name, attempt: attempt, backOffStep: backOffStep,
      imageReference: imageReference, imageID: imageID, createdAt: createdAt, state: state.state,
      isStopping: state.isStopping)
  }
}

/// How a container stands: `status.json`, and what the shim tells the agent.
struct ContainerState: Sendable, Equatable {
  var state: ContainerStatus.State
  var isStopping = false

  static let created = ContainerState(state: .created)

  var json: Value {
    var value: Value = ["stopping": Value(isStopping)]
    switch state {
    case .created: value["state"] = "created"
    case .running(let since):
      value["state"] = "running"
      value["startedAt"] = Value(since.nanosecondText)
    case .exited(let exit):
      value["state"] = "exited"
      value["code"] = Value(exit.code)
      value["startedAt"] = Value(exit.startedAt?.nanosecondText)
      value["finishedAt"] = Value(exit.finishedAt.nanosecondText)
      value["reason"] = Value(exit.reason)
      value["message"] = Value(exit.message)
    }
    return value
  }

  init(state: ContainerStatus.State, isStopping: Bool = false) {
    self.state = state
    self.isStopping = isStopping
  }

  init?(_ value: Value) {
    let startedAt = value["startedAt"].string.flatMap { try? Timestamp($0) }
    switch value["state"].string {
    case "created": state = .created
    case "running":
      guard let startedAt else { return nil }
      state = .running(since: startedAt)
    case "exited":
      guard let code = value["code"].int,
        let finishedAt = value["finishedAt"].string.flatMap({ try? Timestamp($0) })
      else { return nil }
      state = .exited(
        ContainerStatus.Exit(
          code: code, startedAt: startedAt, finishedAt: finishedAt,
          reason: value["reason"].string ?? "", message: value["message"].string ?? ""))
    default: return nil
    }
    isStopping = value["stopping"].bool ?? false
  }
}
