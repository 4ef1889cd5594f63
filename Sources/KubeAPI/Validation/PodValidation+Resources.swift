extension PodValidation {
  private static let standardResources: Set<String> = [
    "cpu", "memory", "ephemeral-storage", "storage", "pods", "services",
  ]
  private static let containerResources: Set<String> = ["cpu", "memory", "ephemeral-storage"]

  mutating func validateResources(_ resources: Value, _ path: FieldPath) {
    let limits = resources["limits"]
    let limitsPath = path.child("limits")
    for item in limits.members { validateAmount(item, limitsPath) }
    let requestsPath = path.child("requests")
    for item in resources["requests"].members {
      validateAmount(item, requestsPath)
      guard let request = item.value.quantity, let limit = limits[item.key].quantity else {
        if !PodValidation.isOvercommittable(item.key), limits[item.key].isNull {
          errors.append(
            .required(limitsPath, "Limit must be set for non overcommitable resources"))
        }
        continue
      }
      let isFixed = !PodValidation.isOvercommittable(item.key)
      if isFixed, request != limit {
        errors.append(
          .invalid(
            requestsPath, .string(request.description),
            "must be equal to \(item.key) limit of \(limit)"))
      } else if request > limit {
        errors.append(
          .invalid(
            requestsPath, .string(request.description),
            "must be less than or equal to \(item.key) limit of \(limit)"))
      }
    }
  }

  private mutating func validateAmount(_ item: Value.Object.Member, _ path: FieldPath) {
    let path = path.key(item.key)
    errors += PodValidation.resourceNameProblems(item.key).map {
      .invalid(path, .string(item.key), $0)
    }
    if let amount = item.value.quantity, amount.isNegative {
      errors.append(
        .invalid(path, .string(amount.description), "must be greater than or equal to 0"))
    } else if !PodValidation.isOvercommittable(item.key), let amount = item.value.quantity,
      !amount.isWhole
    {
      errors.append(.invalid(path, .string(amount.description), "must be an integer"))
    }
  }

  /// Devices and huge pages can't be promised twice.
  private static func isOvercommittable(_ name: String) -> Bool {
    if name.hasPrefix("hugepages-") { return false }
    guard let slash = name.firstIndex(of: "/") else { return true }
    return name[..<slash].hasSuffix("kubernetes.io")
  }

  private static func resourceNameProblems(_ name: String) -> [String] {
    var problems = Names.qualifiedNameProblems(name)
    if !problems.isEmpty { return problems }
    if !name.contains("/"), !name.hasPrefix("hugepages-") {
      if !standardResources.contains(name) {
        problems.append("must be a standard resource type or fully qualified")
      }
      if !containerResources.contains(name) {
        problems.append("must be a standard resource for containers")
      }
    }
    return problems
  }

  // MARK: Volumes

  private static let hostPathTypes = [
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate",
    "Socket",
  ]

  /// - Returns: the names of all volumes.
  mutating func validateVolumes(_ volumes: Value, _ path: FieldPath) -> Set<String> {
    var names: Set<String> = []
    for (index, volume) in volumes.elements.enumerated() {
      let path = path.index(index)
      if volume["name"].isEmpty {
        errors.append(.required(path.child("name")))
      } else {
        named(volume["name"], path.child("name")) { Names.labelProblems($0) }
        if !names.insert(volume["name"].string ?? "").inserted {
          errors.append(.duplicate(path.child("name"), volume["name"]))
        }
      }
      let sources = volume.members.filter { $0.key != "name" }
      if sources.isEmpty { errors.append(.required(path, "must specify a volume type")) }
      for extra in sources.dropFirst() {
        errors.append(
          .forbidden(path.child(extra.key), "may not specify more than 1 volume type"))
      }
      if let source = sources.first { validateSource(source, path.child(source.key)) }
    }
    return names
  }

  private mutating func validateSource(_ source: Value.Object.Member, _ path: FieldPath) {
    let value = source.value
    switch source.key {
    case "emptyDir":
      if let size = value["sizeLimit"].quantity, size.isNegative {
        errors.append(
          .forbidden(path.child("sizeLimit"), "SizeLimit field must be a valid resource quantity"))
      }
    case "hostPath":
      let target = value["path"].string ?? ""
      if target.isEmpty {
        errors.append(.required(path.child("path")))
      } else if target.split(separator: "/").contains("..") {
        errors.append(.invalid(path.child("path"), value["path"], "must not contain '..'"))
      }
      supported(
        .string(value["type"].string ?? ""), PodValidation.hostPathTypes, path.child("type"))
    case "configMap":
      if value["name"].isEmpty { errors.append(.required(path.child("name"))) }
      validateMode(value["defaultMode"], path.child("defaultMode"))
      validateItems(value["items"], path.child("items"))
    case "secret":
      if value["secretName"].isEmpty { errors.append(.required(path.child("secretName"))) }
      validateMode(value["defaultMode"], path.child("defaultMode"))
      validateItems(value["items"], path.child("items"))
    case "downwardAPI":
      validateMode(value["defaultMode"], path.child("defaultMode"))
      validateDownward(value["items"], path)
    case "projected": validateProjected(value, path)
    case "persistentVolumeClaim":
      if value["claimName"].isEmpty { errors.append(.required(path.child("claimName"))) }
    case "nfs":
      if value["server"].isEmpty { errors.append(.required(path.child("server"))) }
      if value["path"].isEmpty { errors.append(.required(path.child("path"))) }
    default: break
    }
  }

  private mutating func validateProjected(_ value: Value, _ path: FieldPath) {
    validateMode(value["defaultMode"], path.child("defaultMode"))
    for (index, source) in value["sources"].elements.enumerated() {
      let path = path.child("sources").index(index)
      for part in source.members {
        let partPath = path.child(part.key)
        switch part.key {
        case "configMap", "secret":
          if part.value["name"].isEmpty { errors.append(.required(partPath.child("name"))) }
          validateItems(part.value["items"], partPath.child("items"))
        case "downwardAPI": validateDownward(part.value["items"], partPath)
        case "serviceAccountToken":
          if part.value["path"].isEmpty { errors.append(.required(partPath.child("path"))) }
          let seconds = part.value["expirationSeconds"].integer ?? 3600
          if seconds < 600 {
            errors.append(
              .invalid(
                partPath.child("expirationSeconds"), .integer(seconds),
                "may not specify a duration less than 10 minutes"))
          }
        default: break
        }
      }
    }
  }

  private mutating func validateMode(_ mode: Value, _ path: FieldPath) {
    guard let number = mode.integer else { return }
    if number < 0 || number > 0o777 {
      errors.append(
        .invalid(
          path, mode, "must be a number between 0 and 0777 (octal), both inclusive"))
    }
  }

  private mutating func validateItems(_ items: Value, _ path: FieldPath) {
    for (index, item) in items.elements.enumerated() {
      let path = path.index(index)
      if item["key"].isEmpty { errors.append(.required(path.child("key"))) }
      validateLocalPath(item["path"], path.child("path"))
      validateMode(item["mode"], path.child("mode"))
    }
  }

  private mutating func validateDownward(_ items: Value, _ path: FieldPath) {
    for (index, item) in items.elements.enumerated() {
      let path = path.child("items").index(index)
      validateLocalPath(item["path"], path.child("path"))
      validateMode(item["mode"], path.child("mode"))
      if !item["fieldRef"].isNull {
        validateFieldReference(
          item["fieldRef"], PodValidation.downwardFields, path.child("fieldRef"))
      } else if item["resourceFieldRef"].isNull {
        errors.append(
          .required(path, "one of fieldRef and resourceFieldRef is required"))
      }
    }
  }

  /// A path that stays below the volume it is in.
  private mutating func validateLocalPath(_ value: Value, _ path: FieldPath) {
    let text = value.string ?? ""
    if text.isEmpty {
      errors.append(.required(path))
    } else if text.hasPrefix("/") {
      errors.append(.invalid(path, value, "must be a relative path"))
    } else if text.split(separator: "/").contains("..") {
      errors.append(.invalid(path, value, "must not contain '..'"))
    } else if text.hasPrefix("..") {
      errors.append(.invalid(path, value, "must not start with '..'"))
    }
  }
}
