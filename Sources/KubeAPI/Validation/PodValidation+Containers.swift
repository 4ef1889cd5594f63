extension PodValidation {
  private static let pullPolicies = ["Always", "IfNotPresent", "Never"]
  private static let messagePolicies = ["FallbackToLogsOnError", "File"]
  private static let protocols = ["SCTP", "TCP", "UDP"]

  mutating func validateContainers(_ spec: Value, _ volumes: Set<String>, _ path: FieldPath) {
    let containers = spec["containers"].elements
    let list = path.child("containers")
    if containers.isEmpty { errors.append(.required(list)) }
    var names: Set<String> = []
    var hostPorts: Set<String> = []
    let isHost = spec["hostNetwork"] == true
    for (index, container) in containers.enumerated() {
      let path = list.index(index)
      validateContainer(container, volumes, isHost: isHost, path)
      checkDuplicate(container["name"], &names, path)
      checkHostPorts(container["ports"], &hostPorts, path.child("ports"))
      if !container["restartPolicy"].isNull {
        errors.append(
          .forbidden(
            path.child("restartPolicy"), "may not be set for non-init containers"))
      }
    }
    for (index, container) in spec["initContainers"].elements.enumerated() {
      let path = path.child("initContainers").index(index)
      validateContainer(container, volumes, isHost: isHost, path)
      checkDuplicate(container["name"], &names, path)
      let isSidecar = container["restartPolicy"] == "Always"
      if !container["restartPolicy"].isNull, !isSidecar {
        errors.append(
          .notSupported(path.child("restartPolicy"), container["restartPolicy"], ["Always"]))
      }
      guard !isSidecar else { continue }
      for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"]
      where !container[key].isNull {
        errors.append(
          .forbidden(
            path.child(key), "may not be set for init containers without restartPolicy=Always"))
      }
    }
  }

  private mutating func checkDuplicate(
    _ name: Value, _ names: inout Set<String>, _ path: FieldPath
  ) {
    guard let text = name.string, !text.isEmpty else { return }
    if !names.insert(text).inserted { errors.append(.duplicate(path.child("name"), name)) }
  }

  private mutating func checkHostPorts(
    _ ports: Value, _ taken: inout Set<String>, _ path: FieldPath
  ) {
    for (index, port) in ports.elements.enumerated() {
      guard let number = port["hostPort"].integer, number != 0 else { continue }
      let key = "\(port["protocol"].string ?? "")/\(port["hostIP"].string ?? "")/\(number)"
      if !taken.insert(key).inserted {
        errors.append(.duplicate(path.index(index).child("hostPort"), .string(key)))
      }
    }
  }

  private mutating func validateContainer(
    _ container: Value, _ volumes: Set<String>, isHost: Bool, _ path: FieldPath
  ) {
    if container["name"].isEmpty {
      errors.append(.required(path.child("name")))
    } else {
      named(container["name"], path.child("name")) { Names.labelProblems($0) }
    }
    let image = container["image"].string ?? ""
    if image.isEmpty {
      errors.append(.required(path.child("image")))
    } else if image != image.trimmedOfSpace {
      errors.append(
        .invalid(
          path.child("image"), container["image"], "must not have leading or trailing whitespace"))
    }
    validatePorts(container["ports"], isHost: isHost, path.child("ports"))
    validateEnvironment(container["env"], path.child("env"))
    validateEnvironmentSources(container["envFrom"], path.child("envFrom"))
    validateMounts(container["volumeMounts"], volumes, path.child("volumeMounts"))
    supported(
      container["imagePullPolicy"], PodValidation.pullPolicies, path.child("imagePullPolicy"),
      isRequired: true)
    supported(
      container["terminationMessagePolicy"], PodValidation.messagePolicies,
      path.child("terminationMessagePolicy"), isRequired: true)
    validateResources(container["resources"], path.child("resources"))
    let lifecycle = container["lifecycle"]
    for key in ["postStart", "preStop"] where !lifecycle[key].isNull {
      validateHandler(lifecycle[key], path.child("lifecycle", key), isProbe: false)
    }
    for key in ["livenessProbe", "startupProbe"] {
      validateProbe(container[key], path.child(key))
      if let threshold = container[key]["successThreshold"].integer, threshold != 1 {
        errors.append(
          .invalid(path.child(key, "successThreshold"), .integer(threshold), "must be 1"))
      }
    }
    validateProbe(container["readinessProbe"], path.child("readinessProbe"))
    let security = container["securityContext"]
    for key in ["runAsUser", "runAsGroup"] {
      identifier(security[key], path.child("securityContext", key))
    }
    if security["privileged"] == true, security["allowPrivilegeEscalation"] == false {
      errors.append(
        .invalid(
          path.child("securityContext"), security,
          "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
    }
  }

  private mutating func validatePorts(_ ports: Value, isHost: Bool, _ path: FieldPath) {
    var names: Set<String> = []
    for (index, item) in ports.elements.enumerated() {
      let path = path.index(index)
      if let name = item["name"].string, !name.isEmpty {
        named(item["name"], path.child("name"), rule: Names.portNameProblems)
        if !names.insert(name).inserted {
          errors.append(.duplicate(path.child("name"), item["name"]))
        }
      }
      if item["containerPort"].integer ?? 0 == 0 {
        errors.append(.required(path.child("containerPort")))
      } else {
        port(item["containerPort"], path.child("containerPort"))
      }
      if item["hostPort"].integer ?? 0 != 0 {
        port(item["hostPort"], path.child("hostPort"))
        if isHost, item["hostPort"] != item["containerPort"] {
          errors.append(
            .invalid(
              path.child("containerPort"), item["containerPort"],
              "must match `hostPort` when `hostNetwork` is true"))
        }
      }
      supported(
        item["protocol"], PodValidation.protocols, path.child("protocol"), isRequired: true)
    }
  }

  private mutating func validateEnvironment(_ variables: Value, _ path: FieldPath) {
    for (index, variable) in variables.elements.enumerated() {
      let path = path.index(index)
      if variable["name"].isEmpty {
        errors.append(.required(path.child("name")))
      } else {
        named(variable["name"], path.child("name"), rule: Names.environmentNameProblems)
      }
      guard case .object(let source) = variable["valueFrom"] else { continue }
      let sourcePath = path.child("valueFrom")
      if source.isEmpty {
        errors.append(
          .invalid(
            sourcePath, "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or "
              + "`secretKeyRef`"))
      } else if !variable["value"].isEmpty {
        errors.append(
          .invalid(sourcePath, "", "may not be specified when `value` is not empty"))
      } else if source.count > 1 {
        errors.append(
          .invalid(sourcePath, "", "may not have more than one field specified at a time"))
      }
      for key in ["configMapKeyRef", "secretKeyRef"] {
        guard let reference = source.find(key) else { continue }
        if reference["name"].isEmpty {
          errors.append(.required(sourcePath.child(key, "name")))
        }
        if reference["key"].isEmpty {
          errors.append(.required(sourcePath.child(key, "key")))
        } else {
          named(
            reference["key"], sourcePath.child(key, "key"), rule: Names.configKeyProblems)
        }
      }
      if let reference = source.find("fieldRef") {
        validateFieldReference(
          reference, PodValidation.environmentFields, sourcePath.child("fieldRef"))
      }
      if let reference = source.find("resourceFieldRef"), reference["resource"].isEmpty {
        errors.append(.required(sourcePath.child("resourceFieldRef", "resource")))
      }
    }
  }

  private static let environmentFields = [
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName",
    "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
  ]
  static let downwardFields = [
    "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace",
    "metadata.uid",
  ]

  mutating func validateFieldReference(
    _ reference: Value, _ fields: [String], _ path: FieldPath
  ) {
    let field = reference["fieldPath"].string ?? ""
    if field.isEmpty {
      errors.append(.required(path.child("fieldPath")))
      return
    }
    // metadata.labels['key'] names one entry of a map.
    if let bracket = field.firstIndex(of: "[") {
      let map = String(field[..<bracket])
      if ["metadata.annotations", "metadata.labels"].contains(map), field.hasSuffix("']") {
        return
      }
    }
    if !fields.contains(field) {
      errors.append(.notSupported(path.child("fieldPath"), reference["fieldPath"], fields))
    }
  }

  private mutating func validateEnvironmentSources(_ sources: Value, _ path: FieldPath) {
    for (index, source) in sources.elements.enumerated() {
      let path = path.index(index)
      named(source["prefix"], path.child("prefix"), rule: Names.environmentNameProblems)
      let given = ["configMapRef", "secretRef"].filter { !source[$0].isNull }
      if given.isEmpty {
        errors.append(
          .invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
      } else if given.count > 1 {
        errors.append(
          .invalid(path, "", "may not have more than one field specified at a time"))
      }
      for key in given where source[key]["name"].isEmpty {
        errors.append(.required(path.child(key, "name")))
      }
    }
  }

  private mutating func validateMounts(
    _ mounts: Value, _ volumes: Set<String>, _ path: FieldPath
  ) {
    var paths: Set<String> = []
    for (index, mount) in mounts.elements.enumerated() {
      let path = path.index(index)
      let name = mount["name"].string ?? ""
      if name.isEmpty { errors.append(.required(path.child("name"))) }
      if !volumes.contains(name) { errors.append(.notFound(path.child("name"), .string(name))) }
      let target = mount["mountPath"].string ?? ""
      if target.isEmpty { errors.append(.required(path.child("mountPath"))) }
      if !paths.insert(target).inserted {
        errors.append(.invalid(path.child("mountPath"), .string(target), "must be unique"))
      }
      for key in ["subPath", "subPathExpr"] {
        let sub = mount[key].string ?? ""
        if sub.hasPrefix("/") {
          errors.append(.invalid(path.child(key), mount[key], "must be a relative path"))
        }
        if sub.split(separator: "/").contains("..") {
          errors.append(.invalid(path.child(key), mount[key], "must not contain '..'"))
        }
      }
      if !mount["subPath"].isEmpty, !mount["subPathExpr"].isEmpty {
        errors.append(
          .invalid(
            path.child("subPathExpr"), mount["subPathExpr"],
            "subPathExpr and subPath are mutually exclusive"))
      }
    }
  }

  // MARK: Probes and hooks

  private mutating func validateProbe(_ probe: Value, _ path: FieldPath) {
    guard !probe.isNull else { return }
    validateHandler(probe, path, isProbe: true)
    for key in [
      "initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold",
      "failureThreshold",
    ] { notNegative(probe[key], path.child(key)) }
    if let seconds = probe["terminationGracePeriodSeconds"].integer, seconds <= 0 {
      errors.append(
        .invalid(
          path.child("terminationGracePeriodSeconds"), .integer(seconds),
          "must be greater than 0"))
    }
  }

  private mutating func validateHandler(_ handler: Value, _ path: FieldPath, isProbe: Bool) {
    let kinds = ["exec", "httpGet", "tcpSocket"] + (isProbe ? ["grpc"] : ["sleep"])
    let given = kinds.filter { !handler[$0].isNull }
    if given.isEmpty { errors.append(.required(path, "must specify a handler type")) }
    for extra in given.dropFirst() {
      errors.append(
        .forbidden(path.child(extra), "may not specify more than 1 handler type"))
    }
    switch given.first {
    case "exec":
      if handler["exec"]["command"].isEmpty {
        errors.append(.required(path.child("exec", "command")))
      }
    case "httpGet":
      if handler["httpGet"]["path"].isEmpty {
        errors.append(.required(path.child("httpGet", "path")))
      }
      validateTarget(handler["httpGet"]["port"], path.child("httpGet", "port"))
      supported(
        handler["httpGet"]["scheme"], ["HTTP", "HTTPS"], path.child("httpGet", "scheme"))
    case "tcpSocket": validateTarget(handler["tcpSocket"]["port"], path.child("tcpSocket", "port"))
    case "grpc": port(handler["grpc"]["port"], path.child("grpc", "port"))
    default: break
    }
  }

  private mutating func validateTarget(_ target: Value, _ path: FieldPath) {
    if case .string(let name) = target {
      errors += Names.portNameProblems(name).map { .invalid(path, target, $0) }
    } else {
      port(target, path)
    }
  }
}
