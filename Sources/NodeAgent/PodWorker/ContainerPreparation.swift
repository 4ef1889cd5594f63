import Glibc
import KubeAPI

/// Turns a container of a pod's manifest into what the runtime needs.
struct ContainerPreparation: Sendable {
  let paths: PodPaths
  let api: any PodAPI

  /// - Throws: ``PreparationError`` for what the pod's author must mend (`CreateContainerConfigError`).
  func configuration(
    _ pod: PodManifest, _ container: PodManifest.Container, image: Image, attempt: Int,
    backOffStep: Int, addresses: [String], podAddress: String?
  ) async throws -> ContainerConfiguration {
    let spec = pod.specification(of: container.name)
    var configuration = ContainerConfiguration(
      name: container.name, image: image, imageReference: container.image)
    configuration.attempt = attempt
    configuration.backOffStep = backOffStep
    // The status in the API lags behind the sandbox that the container is to run in.
    var object = pod.object
    if let address = podAddress {
      object["status"]["podIP"] = Value(address)
      object["status"]["podIPs"] = [["ip": Value(address)]]
    }
    if let address = addresses.first {
      object["status"]["hostIP"] = Value(address)
      object["status"]["hostIPs"] = .array(addresses.map { ["ip": Value($0)] })
    }
    let environment = try await environment(pod, spec, object)
    configuration.environment = environment
    func expanded(_ key: String) -> [String]? {
      spec[key].array.map { $0.compactMap(\.string).map { Self.expand($0, environment) } }
    }
    configuration.command = expanded("command")
    configuration.arguments = expanded("args")
    configuration.workingDirectory = spec["workingDir"].string
    configuration.hasInput = spec["stdin"].bool ?? false
    configuration.closesInputOnce = spec["stdinOnce"].bool ?? false
    configuration.hasTerminal = spec["tty"].bool ?? false
    configuration.mounts = try mounts(pod, spec, environment)
    configuration.resources = Self.resources(pod, spec)
    configuration.security = Self.security(pod, spec)
    if let path = spec["terminationMessagePath"].string {
      configuration.terminationMessagePath = path
    }
    configuration.logPath = paths.log(pod, container.name, attempt: attempt)
    return configuration
  }

  // MARK: Environment

  private func environment(
    _ pod: PodManifest, _ spec: Value, _ object: Value
  ) async throws -> [(name: String, value: String)] {
    var environment: [(name: String, value: String)] = []
    func put(_ name: String, _ value: String) {
      if let index = environment.firstIndex(where: { $0.name == name }) {
        environment[index].value = value
      } else {
        environment.append((name, value))
      }
    }
    let links = ServiceEnvironment.variables(
      await api.services(), namespace: pod.namespace,
      hasLinks: pod.object["spec"]["enableServiceLinks"].bool ?? true)
    for (name, value) in links { put(name, value) }
    for source in spec["envFrom"].elements {
      let prefix = source["prefix"].string ?? ""
      let kind = source.has("secretRef") ? "secret" : "configmap"
      let reference = source[kind == "secret" ? "secretRef" : "configMapRef"]
      let name = reference["name"].string ?? ""
      guard let found = try await fetch(kind, pod.namespace, name) else {
        if reference["optional"].bool == true { continue }
        throw PreparationError("\(kind) \"\(name)\" not found")
      }
      for (key, bytes) in PodVolumes.content(of: found) {
        put(prefix + key, String(decoding: bytes, as: UTF8.self))
      }
    }
    for variable in spec["env"].elements {
      guard let name = variable["name"].string else { continue }
      let source = variable["valueFrom"]
      if source.isNull {
        put(name, Self.expand(variable["value"].string ?? "", environment))
      } else if let value = try await value(from: source, pod, spec, object) {
        put(name, value)
      }
    }
    return environment
  }

  private func fetch(_ kind: String, _ namespace: String, _ name: String) async throws -> Value? {
    kind == "secret"
      ? try await api.secret(namespace: namespace, name: name)
      : try await api.configMap(namespace: namespace, name: name)
  }

  /// The value of a variable; nil where an optional source is missing.
  private func value(
    from source: Value, _ pod: PodManifest, _ spec: Value, _ object: Value
  ) async throws -> String? {
    if let path = source["fieldRef"]["fieldPath"].string {
      guard let value = PodFields.value(path, of: object) else {
        throw PreparationError("field \"\(path)\" is not supported in fieldRef")
      }
      return value
    }
    if source.has("resourceFieldRef") {
      return try Self.resourceField(source["resourceFieldRef"], pod, spec)
    }
    for (kind, key) in [("configmap", "configMapKeyRef"), ("secret", "secretKeyRef")]
    where source.has(key) {
      let reference = source[key]
      let name = reference["name"].string ?? ""
      let wanted = reference["key"].string ?? ""
      let isOptional = reference["optional"].bool ?? false
      guard let object = try await fetch(kind, pod.namespace, name) else {
        if isOptional { return nil }
        throw PreparationError("\(kind) \"\(name)\" not found")
      }
      guard let bytes = PodVolumes.content(of: object).first(where: { $0.key == wanted })?.bytes
      else {
        if isOptional { return nil }
        let words = kind == "secret" ? "Secret" : "ConfigMap"
        throw PreparationError(
          "couldn't find key \(wanted) in \(words) \(pod.namespace)/\(name)")
      }
      return String(decoding: bytes, as: UTF8.self)
    }
    throw PreparationError(
      "a variable's valueFrom \(source.members.first?.key ?? "") is not supported")
  }

  /// A container's limit or request as a number of `divisor`s, rounded up; without a limit the node's.
  ///
  /// - Parameter spec: the container that is meant where the reference names none.
  static func resourceField(
    _ reference: Value, _ pod: PodManifest, _ spec: Value
  ) throws -> String {
    let own =
      reference["containerName"].string.map { pod.specification(of: $0) } ?? spec
    let path = reference["resource"].string ?? ""
    let parts = path.split(separator: ".", maxSplits: 1)
    guard parts.count == 2, ["limits", "requests"].contains(parts[0]) else {
      throw PreparationError("resource \"\(path)\" is not supported in resourceFieldRef")
    }
    let name = String(parts[1])
    let quantity =
      own["resources"][String(parts[0])][name].quantity
      ?? (name == "cpu" ? Quantity(Int64(Machine.processors)) : Quantity(Machine.memoryBytes))
    let divisor = reference["divisor"].quantity ?? Quantity.zero
    let unit = divisor.isZero ? Quantity(1) : divisor
    let (quotient, remainder) = quantity.nanoUnits.quotientAndRemainder(dividingBy: unit.nanoUnits)
    return "\(quotient + (remainder > 0 ? 1 : 0))"
  }

  /// Replaces `$(NAME)` by the variable's value; an unknown one stays, and `$$` is a dollar sign.
  static func expand(_ text: String, _ environment: [(name: String, value: String)]) -> String {
    var result = ""
    var rest = Substring(text)
    while let dollar = rest.firstIndex(of: "$") {
      result += rest[..<dollar]
      rest = rest[rest.index(after: dollar)...]
      if rest.first == "$" {
        result += "$"
        rest.removeFirst()
      } else if rest.first == "(", let end = rest.firstIndex(of: ")") {
        let name = rest[rest.index(after: rest.startIndex)..<end]
        result += environment.first { $0.name == name }?.value ?? "$(\(name))"
        rest = rest[rest.index(after: end)...]
      } else {
        result += "$"
      }
    }
    return result + rest
  }

  // MARK: Mounts

  private func mounts(
    _ pod: PodManifest, _ spec: Value, _ environment: [(name: String, value: String)]
  ) throws -> [ContainerConfiguration.Mount] {
    let volumes = pod.object["spec"]["volumes"].elements
    return try spec["volumeMounts"].elements.map { mount in
      let name = mount["name"].string ?? ""
      guard let volume = volumes.first(where: { $0["name"].string == name }) else {
        throw PreparationError("volume \"\(name)\" of a volumeMount does not exist")
      }
      let target = mount["mountPath"].string ?? ""
      guard !target.isEmpty else { throw PreparationError("a volumeMount without mountPath") }
      var source = volume["hostPath"]["path"].string ?? paths.volume(pod.uid, name)
      let subPath =
        mount["subPathExpr"].string.map { Self.expand($0, environment) } ?? mount["subPath"].string
      if let subPath, !subPath.isEmpty { source = try Self.resolve(subPath, in: source) }
      return ContainerConfiguration.Mount(
        source: source, target: target.hasPrefix("/") ? target : "/" + target,
        isReadOnly: (mount["readOnly"].bool ?? false) || volume.has("configMap")
          || volume.has("secret") || volume.has("projected") || volume.has("downwardAPI"))
    }
  }

  /// A path inside a volume, made if it is missing. A container may have put links into the volume, so
  /// the real path must still lie in it.
  private static func resolve(_ subPath: String, in volume: String) throws -> String {
    guard !subPath.hasPrefix("/"), !subPath.split(separator: "/").contains("..") else {
      throw PreparationError("subPath \"\(subPath)\" must be relative and without '..'")
    }
    let path = "\(volume)/\(subPath)"
    if !Disk.exists(path) {
      do { try Disk.makeDirectories(path, mode: 0o755) } catch {
        throw PreparationError("subPath \"\(subPath)\": \(error)")
      }
    }
    guard let real = realPath(path), let root = realPath(volume),
      real == root || real.hasPrefix(root + "/")
    else { throw PreparationError("subPath \"\(subPath)\" leads out of its volume") }
    return real
  }

  private static func realPath(_ path: String) -> String? {
    guard let pointer = realpath(path, nil) else { return nil }
    defer { free(pointer) }
    return String(cString: pointer)
  }

  // MARK: Limits and privileges

  static func resources(_ pod: PodManifest, _ spec: Value) -> ContainerConfiguration.Resources {
    var result = ContainerConfiguration.Resources()
    let limits = spec["resources"]["limits"]
    let requests = spec["resources"]["requests"]
    let cpuLimit = limits["cpu"].quantity.flatMap { $0.isZero ? nil : $0.milliValue }
    let cpuRequest = requests["cpu"].quantity?.milliValue ?? cpuLimit ?? 0
    // 1024 shares are one CPU; the kernel takes 2 through 262,144.
    result.cpuShares = max(2, min(max(0, cpuRequest), 256_000) * 1024 / 1000)
    // A thousandth of a CPU is 100 µs of each 100 ms; below 1 ms the kernel refuses.
    if let cpuLimit { result.cpuQuota = max(1_000, min(cpuLimit, 1 << 40) * 100) }
    result.memoryLimitBytes = limits["memory"].quantity.flatMap { $0.isZero ? nil : $0.value }
    switch PodQuality(pod.object["spec"]) {
    case .guaranteed: result.oomScoreAdjustment = -997
    case .bestEffort: result.oomScoreAdjustment = 1_000
    case .burstable:
      // The less of the machine's memory it asked for, the sooner it goes.
      let memory = max(1, Machine.memoryBytes)
      let request = min(max(0, requests["memory"].quantity?.value ?? 0), memory)
      let share = Int64((Int128(request) * 1_000 / Int128(memory)))
      result.oomScoreAdjustment = min(max(1_000 - share, 3), 999)
    }
    return result
  }

  static func security(_ pod: PodManifest, _ spec: Value) -> ContainerConfiguration.Security {
    let own = spec["securityContext"]
    let shared = pod.object["spec"]["securityContext"]
    var result = ContainerConfiguration.Security()
    result.userID = own["runAsUser"].integer ?? shared["runAsUser"].integer
    result.groupID = own["runAsGroup"].integer ?? shared["runAsGroup"].integer
    result.mustNotBeRoot = own["runAsNonRoot"].bool ?? shared["runAsNonRoot"].bool ?? false
    result.supplementalGroups = shared["supplementalGroups"].elements.compactMap(\.integer)
    if let group = shared["fsGroup"].integer { result.supplementalGroups.append(group) }
    result.isPrivileged = own["privileged"].bool ?? false
    result.hasReadOnlyRoot = own["readOnlyRootFilesystem"].bool ?? false
    result.allowsPrivilegeEscalation = own["allowPrivilegeEscalation"].bool ?? true
    result.addedCapabilities = own["capabilities"]["add"].strings
    result.droppedCapabilities = own["capabilities"]["drop"].strings
    return result
  }

  /// Fields of the manifest that this node stores but does not act on, to be told in an event.
  static func unsupported(_ pod: PodManifest) -> [String] {
    let spec = pod.object["spec"]
    var found: [String] = []
    for (index, container) in spec["containers"].elements.enumerated() {
      let seccomp = container["securityContext"]["seccompProfile"]["type"].string ?? "Unconfined"
      if seccomp != "Unconfined" {
        found.append("spec.containers[\(index)].securityContext.seccompProfile")
      }
    }
    if spec["shareProcessNamespace"].bool == true { found.append("spec.shareProcessNamespace") }
    if !spec["ephemeralContainers"].elements.isEmpty { found.append("spec.ephemeralContainers") }
    if !spec["securityContext"]["sysctls"].elements.isEmpty {
      found.append("spec.securityContext.sysctls")
    }
    if spec.has("runtimeClassName") { found.append("spec.runtimeClassName") }
    if spec["hostUsers"].bool == false { found.append("spec.hostUsers") }
    return found
  }
}
