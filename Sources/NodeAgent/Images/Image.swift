import KubeAPI

/// An image of the local store, ready to run.
public struct Image: Sendable, Equatable {
  /// The digest of the image's configuration: what identifies it, whatever its names.
  public var id: Digest
  /// The digest of the manifest by which it came.
  public var manifest: Digest
  /// All names under which the store has it.
  public var names: [String]
  /// The uncompressed layers, lowest first.
  public var layers: [Digest]
  /// The sum of the compressed layers and the configuration, in bytes.
  public var size: Int64
  public var configuration: Configuration

  /// What the image says about the process to start.
  public struct Configuration: Sendable, Equatable {
    public var entrypoint: [String] = []
    public var command: [String] = []
    /// `NAME=value` each.
    public var environment: [String] = []
    public var workingDirectory = ""
    /// `user`, `uid`, `user:group` or `uid:gid`; empty for root.
    public var user = ""
    /// A name or number; empty for SIGTERM.
    public var stopSignal = ""

    public init() {}

    /// Reads the `config` member of an OCI image configuration.
    init(_ value: Value) {
      entrypoint = value["Entrypoint"].strings
      command = value["Cmd"].strings
      environment = value["Env"].strings
      workingDirectory = value["WorkingDir"].string ?? ""
      user = value["User"].string ?? ""
      stopSignal = value["StopSignal"].string ?? ""
    }
  }

  /// How Kubernetes names the image in a container's status: repository and manifest digest.
  public var repositoryDigest: String {
    guard let name = names.first, let reference = ImageName(name) else {
      return id.description
    }
    return "\(reference.repository)@\(manifest)"
  }
}
