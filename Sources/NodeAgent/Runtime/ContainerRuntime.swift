import HTTPServer
import KubeAPI

/// What runs pods' containers: the part of Kubernetes' Container Runtime Interface that the agent uses.
///
/// The verbs, their order and their meaning are CRI's (`runtime.v1`), so that a daemon that serves CRI
/// can stand in for ``CrunRuntime``: a *sandbox* is a pod's shared environment (network address,
/// hostname, IPC) and lives as long as the pod; *containers* come and go in it, each start being a new
/// container with a higher attempt number. Differences from CRI: names are Swift's, ids are typed,
/// and what a pod's lifecycle decides from comes in one call (``pods()``) without a round trip.
///
/// All calls are idempotent where CRI's are: stopping what has stopped and removing what is gone
/// succeed.
public protocol ContainerRuntime: Sendable {
  /// For the Node's `containerRuntimeVersion`: `crun://1.8.1`.
  var version: String { get }

  /// Creates and starts a pod's sandbox, network included.
  func runPodSandbox(_ configuration: SandboxConfiguration) async throws -> SandboxID
  /// Ends all containers of the sandbox at once (SIGKILL) and gives its network back. Its records and
  /// its containers' stay.
  func stopPodSandbox(_ id: SandboxID) async throws
  /// Removes the sandbox and its containers with all that they occupy, stopping them if necessary.
  func removePodSandbox(_ id: SandboxID) async throws

  /// Prepares a container; nothing runs yet.
  func createContainer(
    in sandbox: SandboxID, _ configuration: ContainerConfiguration
  ) async throws -> ContainerID
  /// Starts a prepared container. One that can't be started has then ended with code 128 and reason
  /// `StartError`, and the error is thrown too.
  func startContainer(_ id: ContainerID) async throws
  /// Asks a container to stop (its stop signal) and returns; the runtime kills it once `timeout` has
  /// passed, whether or not the agent still runs.
  func stopContainer(_ id: ContainerID, timeout: Duration) async throws
  /// Removes an ended container and its files.
  func removeContainer(_ id: ContainerID) async throws

  /// Runs a program in a container beside its own.
  ///
  /// - Throws: ``RuntimeError`` with code `notFound` if the container doesn't run.
  func execute(_ id: ContainerID, _ request: ExecRequest) async throws -> ExecSession
  /// Joins a running container's own streams.
  func attach(_ id: ContainerID, input: Bool) async throws -> AttachSession
  /// Connects to a TCP port on the loopback inside of a sandbox.
  func connect(to sandbox: SandboxID, port: UInt16) async throws -> ByteStream

  /// All sandboxes with their containers, as last heard of; costs no I/O.
  func pods() -> [SandboxStatus]
  /// The sandboxes of one pod, oldest first.
  func pods(uid: String) -> [SandboxStatus]

  /// What these sandboxes and their containers have used; what can't be told is left out.
  func usage(of sandboxes: [SandboxStatus], now: Timestamp) async -> RuntimeUsage

  /// Where a container's log is written.
  func logPath(_ id: ContainerID) -> String?

  /// The image of a reference, or nil if the node hasn't got it.
  func imageStatus(_ reference: String) async throws -> Image?
  func listImages() async throws -> [Image]
  /// Makes an image available. Throws ``ImageError`` with code `notFound` if that is impossible.
  func pullImage(_ reference: String) async throws -> Image

  /// Changes that the agent did not ask for, and those it did; for one consumer.
  var events: AsyncStream<RuntimeEvent> { get }
}

/// Something happened to a pod's sandbox or containers: look again.
public struct RuntimeEvent: Sendable, Hashable {
  /// The pod's uid.
  public var podUID: String
}

/// The runtime's name for a sandbox. Stable over restarts of the agent.
public struct SandboxID: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
  public var rawValue: String
  public init(rawValue: String) { self.rawValue = rawValue }
  public var description: String { rawValue }
}

/// The runtime's name for a container. Stable over restarts of the agent.
public struct ContainerID: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
  public var rawValue: String
  public init(rawValue: String) { self.rawValue = rawValue }
  public var description: String { rawValue }
}

/// A pod's shared environment, as asked for.
public struct SandboxConfiguration: Sendable, Equatable {
  public enum Network: String, Sendable {
    /// A network namespace of the pod's own, with an address.
    case pod
    /// The node's network.
    case host
  }
  public struct HostAlias: Sendable, Equatable {
    public var address: String
    public var names: [String]
    public init(address: String, names: [String]) {
      self.address = address
      self.names = names
    }
  }
  /// A directory on the node that becomes a file system in memory for as long as the sandbox lives.
  public struct MemoryVolume: Sendable, Equatable {
    public var path: String
    /// Its limit; nil is the kernel's default, half of the memory.
    public var sizeBytes: Int64?
    public init(path: String, sizeBytes: Int64?) {
      self.path = path
      self.sizeBytes = sizeBytes
    }
  }

  public var name: String
  public var namespace: String
  public var uid: String
  /// Zero for the pod's first sandbox, then one more for each that replaced a lost one.
  public var attempt = 0
  public var hostname = ""
  public var network = Network.pod
  public var usesHostIPC = false
  public var usesHostPID = false
  /// The content of the containers' `/etc/resolv.conf`.
  public var resolverConfiguration = ""
  public var hostAliases: [HostAlias] = []
  public var memoryVolumes: [MemoryVolume] = []
  /// Ports of the node that lead to the pod.
  public var hostPorts: [HostPort] = []

  public init(name: String, namespace: String, uid: String) {
    self.name = name
    self.namespace = namespace
    self.uid = uid
  }
}

/// One container, as asked for.
public struct ContainerConfiguration: Sendable, Equatable {
  public struct Mount: Sendable, Equatable {
    /// A file or directory on the node.
    public var source: String
    /// Where the container sees it.
    public var target: String
    public var isReadOnly: Bool
    public init(source: String, target: String, isReadOnly: Bool) {
      self.source = source
      self.target = target
      self.isReadOnly = isReadOnly
    }
  }
  /// Limits; nil means none.
  public struct Resources: Sendable, Equatable {
    /// Weight among others, 1024 for one CPU requested.
    public var cpuShares: Int64?
    /// Microseconds of CPU per 100 ms.
    public var cpuQuota: Int64?
    public var memoryLimitBytes: Int64?
    /// Who is killed first when memory runs out, -1000 through 1000.
    public var oomScoreAdjustment: Int64?
    public init() {}
  }
  public struct Security: Sendable, Equatable {
    public var userID: Int64?
    public var groupID: Int64?
    public var supplementalGroups: [Int64] = []
    /// Refuse to start as user 0.
    public var mustNotBeRoot = false
    public var isPrivileged = false
    public var hasReadOnlyRoot = false
    public var allowsPrivilegeEscalation = true
    /// Without the prefix `CAP_`; `ALL` stands for all.
    public var addedCapabilities: [String] = []
    public var droppedCapabilities: [String] = []
    public init() {}
  }

  public var name: String
  /// Zero for the first run, then one more for each restart.
  public var attempt = 0
  /// Which step of the back-off led to this attempt; the lifecycle's, kept with the container.
  public var backOffStep = 0
  public var image: Image
  /// The reference as the pod gave it.
  public var imageReference: String
  /// Replaces the image's entrypoint; with it the image's command doesn't count either.
  public var command: [String]?
  /// Replaces the image's command.
  public var arguments: [String]?
  public var workingDirectory: String?
  public var environment: [(name: String, value: String)] = []
  public var mounts: [Mount] = []
  public var resources = Resources()
  public var security = Security()
  /// Whether it gets a standard input that clients can be attached to.
  public var hasInput = false
  /// Whether its input ends with the first client's.
  public var closesInputOnce = false
  public var hasTerminal = false
  /// Where the container sees the file whose text becomes its termination message.
  public var terminationMessagePath = "/dev/termination-log"
  /// Where on the node its log goes, in the CRI's format.
  public var logPath = ""

  public init(name: String, image: Image, imageReference: String) {
    self.name = name
    self.image = image
    self.imageReference = imageReference
  }

  public static func == (a: Self, b: Self) -> Bool {
    a.name == b.name && a.attempt == b.attempt && a.backOffStep == b.backOffStep
      && a.image == b.image && a.imageReference == b.imageReference && a.command == b.command
      && a.arguments == b.arguments && a.workingDirectory == b.workingDirectory
      && a.environment.elementsEqual(b.environment, by: ==) && a.mounts == b.mounts
      && a.resources == b.resources && a.security == b.security
      && a.hasInput == b.hasInput && a.closesInputOnce == b.closesInputOnce
      && a.hasTerminal == b.hasTerminal && a.terminationMessagePath == b.terminationMessagePath && a.logPath == b.logPath
  }
}

/// A sandbox, as it is.
public struct SandboxStatus: Sendable, Equatable {
  public var id: SandboxID
  public var podUID: String
  public var podName: String
  public var podNamespace: String
  public var attempt: Int
  /// Whether containers can run in it. A sandbox that was lost never becomes ready again.
  public var isReady: Bool
  public var createdAt: Timestamp
  /// The pod's address; nil with the node's network.
  public var address: String?
  /// All attempts of all containers that were not removed, oldest first.
  public var containers: [ContainerStatus]

  public init(
    id: SandboxID, podUID: String, podName: String, podNamespace: String, attempt: Int,
    isReady: Bool, createdAt: Timestamp, address: String?, containers: [ContainerStatus]
  ) {
    self.id = id
    self.podUID = podUID
    self.podName = podName
    self.podNamespace = podNamespace
    self.attempt = attempt
    self.isReady = isReady
    self.createdAt = createdAt
    self.address = address
    self.containers = containers
  }
}

/// A container, as it is.
public struct ContainerStatus: Sendable, Equatable {
  public enum State: Sendable, Equatable {
    case created
    case running(since: Timestamp)
    case exited(Exit)
  }
  /// How a container ended.
  public struct Exit: Sendable, Equatable {
    /// 128 and the signal's number if a signal ended it.
    public var code: Int
    /// Nil if it never ran.
    public var startedAt: Timestamp?
    public var finishedAt: Timestamp
    /// `Completed`, `Error`, `OOMKilled`, `StartError` or `Unknown`.
    public var reason: String
    /// The container's own termination message, or why it couldn't start.
    public var message: String
    public init(
      code: Int, startedAt: Timestamp?, finishedAt: Timestamp, reason: String, message: String
    ) {
      self.code = code
      self.startedAt = startedAt
      self.finishedAt = finishedAt
      self.reason = reason
      self.message = message
    }
  }
  public var id: ContainerID
  public var name: String
  public var attempt: Int
  public var backOffStep: Int
  public var imageReference: String
  /// Repository and digest, for the pod's status.
  public var imageID: String
  public var createdAt: Timestamp
  public var state: State
  /// Whether it was asked to stop.
  public var isStopping: Bool

  public init(
    id: ContainerID, name: String, attempt: Int, backOffStep: Int, imageReference: String,
    imageID: String, createdAt: Timestamp, state: State, isStopping: Bool
  ) {
    self.id = id
    self.name = name
    self.attempt = attempt
    self.backOffStep = backOffStep
    self.imageReference = imageReference
    self.imageID = imageID
    self.createdAt = createdAt
    self.state = state
    self.isStopping = isStopping
  }
}

/// Why the runtime could not do what was asked.
public struct RuntimeError: Error, Sendable, CustomStringConvertible {
  public enum Code: Hashable, Sendable {
    /// No such sandbox or container, or one that has ended.
    case notFound
    /// The machine lacks a program, a privilege or a kernel feature.
    case unavailable
    /// The configuration can't be run: an unknown user, a bad path.
    case invalidConfiguration
    /// The container couldn't be started.
    case startFailed
    case network
    case system
  }
  public var code: Code
  public var message: String
  public init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }
  public var description: String { message }
}
