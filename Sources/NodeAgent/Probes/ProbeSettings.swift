import KubeAPI

/// What a probe is for.
public enum ProbeKind: String, CaseIterable, Sendable {
  /// Until it has succeeded once, the others wait; if it never does, the container is killed.
  case startup
  /// When it fails, the container is killed and started again.
  case liveness
  /// While it fails, the container is not ready: no service sends it anything.
  case readiness

  var title: String {
    switch self {
    case .startup: "Startup"
    case .liveness: "Liveness"
    case .readiness: "Readiness"
    }
  }
}

/// Something to be done to a container: by a probe, or by a lifecycle hook.
public enum ContainerHandler: Sendable, Equatable {
  case execute([String])
  case http(HTTPGet)
  case connect(host: String?, port: Port)
  case grpc(port: Int, service: String)
  case sleep(seconds: Int64)

  public struct HTTPGet: Sendable, Equatable {
    public var isSecure = false
    public var host: String?
    public var port: Port
    public var path: String
    public var headers: [Header] = []
  }
  public struct Header: Sendable, Equatable {
    public var name: String
    public var value: String
  }
  /// A port by number, or by the name of one of the container's ports.
  public struct Port: Sendable, Equatable {
    public var text: String
    /// Nil for a name that no port has.
    public var number: Int?
  }

  /// Nil if the manifest has no handler that is known here.
  init?(_ value: Value, ports: [Value]) {
    func port(_ value: Value) -> Port {
      if let number = value.int { return Port(text: "\(number)", number: number) }
      let name = value.string ?? ""
      let named = ports.first { $0["name"].string == name }?["containerPort"].int
      return Port(text: name, number: named ?? Int(name))
    }
    if value.has("exec") {
      self = .execute(value["exec"]["command"].strings)
    } else if value.has("httpGet") {
      let get = value["httpGet"]
      self = .http(
        HTTPGet(
          isSecure: get["scheme"].string == "HTTPS", host: get["host"].string,
          port: port(get["port"]), path: get["path"].string ?? "/",
          headers: get["httpHeaders"].elements.map {
            Header(name: $0["name"].string ?? "", value: $0["value"].string ?? "")
          }))
    } else if value.has("tcpSocket") {
      let socket = value["tcpSocket"]
      self = .connect(host: socket["host"].string, port: port(socket["port"]))
    } else if value.has("grpc") {
      self = .grpc(
        port: value["grpc"]["port"].int ?? 0, service: value["grpc"]["service"].string ?? "")
    } else if value.has("sleep") {
      self = .sleep(seconds: value["sleep"]["seconds"].integer ?? 0)
    } else {
      return nil
    }
  }
}

/// A probe as the manifest asks for it, with Kubernetes' defaults.
public struct ProbeSettings: Sendable, Equatable {
  public var handler: ContainerHandler
  public var initialDelaySeconds: Int64
  public var periodSeconds: Int64
  public var timeoutSeconds: Int64
  public var successThreshold: Int
  public var failureThreshold: Int
  /// How long the container may take to stop when this probe has failed; nil is the pod's own time.
  public var graceSeconds: Int64?

  init?(_ value: Value, ports: [Value]) {
    guard !value.isNull, let handler = ContainerHandler(value, ports: ports) else { return nil }
    self.handler = handler
    func atLeastOne(_ name: String, or fallback: Int64) -> Int64 {
      value[name].integer.flatMap { $0 > 0 ? $0 : nil } ?? fallback
    }
    initialDelaySeconds = max(0, value["initialDelaySeconds"].integer ?? 0)
    periodSeconds = atLeastOne("periodSeconds", or: 10)
    timeoutSeconds = atLeastOne("timeoutSeconds", or: 1)
    successThreshold = Int(clamping: atLeastOne("successThreshold", or: 1))
    failureThreshold = Int(clamping: atLeastOne("failureThreshold", or: 3))
    graceSeconds = value["terminationGracePeriodSeconds"].integer
  }
}
