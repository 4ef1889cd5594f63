// Kinds that describe the cluster itself: namespaces, nodes, identities, events, leases.

struct NamespaceStrategy: ResourceStrategy {
  let hasStatus = true

  /// Every namespace can be selected by its name.
  func applyDefaults(_ namespace: inout Value) {
    let name = namespace["metadata"]["name"]
    if !name.isEmpty { namespace["metadata"]["labels"]["kubernetes.io/metadata.name"] = name }
  }

  /// The finalizer keeps the namespace until its contents are gone.
  func prepareForCreate(_ namespace: inout Value) {
    namespace["status"] = ["phase": "Active"]
    if !namespace["spec"]["finalizers"].strings.contains("kubernetes") {
      namespace["spec"]["finalizers"].append("kubernetes")
    }
    // A generated name is known only now.
    applyDefaults(&namespace)
  }

  /// The subresource `finalize` alone changes the finalizers.
  func prepareForUpdate(_ namespace: inout Value, from old: Value) {
    namespace["spec"] = old["spec"]
    namespace["status"] = old["status"]
  }

  func prepareForStatusUpdate(_ namespace: inout Value, from old: Value) {
    namespace["spec"] = old["spec"]
  }

  func nameProblems(_ name: String, isPrefix: Bool) -> [String] {
    Names.labelProblems(name, isPrefix: isPrefix)
  }

  func validateStatusUpdate(_ namespace: Value, from old: Value) -> [FieldError] {
    let phase = namespace["status"]["phase"]
    let isDeleting = !namespace["metadata"]["deletionTimestamp"].isNull
    if !isDeleting, phase != "Active" {
      return [
        .invalid(
          FieldPath("status").child("phase"), phase,
          "may only be 'Active' if `deletionTimestamp` is empty")
      ]
    }
    if isDeleting, phase != "Terminating" {
      return [
        .invalid(
          FieldPath("status").child("phase"), phase,
          "may only be 'Terminating' if `deletionTimestamp` is not empty")
      ]
    }
    return []
  }
}

struct NodeStrategy: ResourceStrategy {
  /// A node comes with its status: its agent creates it.
  func prepareForCreate(_ node: inout Value) { fillAllocatable(&node) }

  func prepareForUpdate(_ node: inout Value, from old: Value) { node["status"] = old["status"] }

  func prepareForStatusUpdate(_ node: inout Value, from old: Value) {
    node["spec"] = old["spec"]
    fillAllocatable(&node)
  }

  private func fillAllocatable(_ node: inout Value) {
    let capacity = node["status"]["capacity"]
    if !capacity.isEmpty { node["status"].setDefault("allocatable", to: capacity) }
  }

  func validate(_ node: Value) -> [FieldError] {
    var errors = validateTaints(node["spec"]["taints"], FieldPath("spec").child("taints"))
    var addresses: Set<String> = []
    for (index, address) in node["status"]["addresses"].elements.enumerated()
    where !addresses.insert(address.jsonString).inserted {
      errors.append(
        .duplicate(FieldPath("status").child("addresses").index(index), address))
    }
    return errors
  }

  func validateUpdate(_ node: Value, from old: Value) -> [FieldError] {
    var errors = validate(node)
    let path = FieldPath("spec")
    for key in ["podCIDR", "podCIDRs"] where !old["spec"][key].isEmpty {
      if node["spec"][key] != old["spec"][key] {
        errors.append(
          .forbidden(
            path.child(key), "node updates may not change podCIDR except from \"\" to valid"))
      }
    }
    if !old["spec"]["providerID"].isEmpty, node["spec"]["providerID"] != old["spec"]["providerID"] {
      errors.append(
        .forbidden(
          path.child("providerID"),
          "node updates may not change providerID except from \"\" to valid"))
    }
    return errors
  }

  private func validateTaints(_ taints: Value, _ path: FieldPath) -> [FieldError] {
    var validation = PodValidation()
    var seen: Set<String> = []
    for (index, taint) in taints.elements.enumerated() {
      let path = path.index(index)
      validation.errors += Names.qualifiedNameProblems(taint["key"].string ?? "").map {
        .invalid(path.child("key"), .string(taint["key"].string ?? ""), $0)
      }
      validation.errors += Names.labelValueProblems(taint["value"].string ?? "").map {
        .invalid(path.child("value"), taint["value"], $0)
      }
      validation.supported(
        taint["effect"], ["NoExecute", "NoSchedule", "PreferNoSchedule"], path.child("effect"),
        isRequired: true)
      let identity = "\(taint["key"].string ?? "")\n\(taint["effect"].string ?? "")"
      if !seen.insert(identity).inserted {
        validation.errors.append(.duplicate(path, taint))
      }
    }
    return validation.errors
  }
}

struct ServiceAccountStrategy: ResourceStrategy {}

/// Events are reports; they are checked little and never lead to anything.
struct EventStrategy: ResourceStrategy {
  let allowsCreateOnUpdate = true

  func validate(_ event: Value) -> [FieldError] {
    let involved = event["involvedObject"]["namespace"].string ?? ""
    let own = event["metadata"]["namespace"].string ?? ""
    // What has no namespace is reported in the default one.
    if involved != own, !(involved.isEmpty && own == "default") {
      return [
        .invalid(
          FieldPath("involvedObject").child("namespace"), .string(involved),
          "does not match event.namespace")
      ]
    }
    return []
  }
}

struct RegardingEventStrategy: ResourceStrategy {
  let allowsCreateOnUpdate = true

  func validate(_ event: Value) -> [FieldError] {
    var errors: [FieldError] = []
    for key in ["reportingController", "reportingInstance", "reason", "action"]
    where event[key].isEmpty {
      errors.append(.required(FieldPath(key)))
    }
    if event["eventTime"].isNull { errors.append(.required(FieldPath("eventTime"))) }
    if event["type"] != "Normal", event["type"] != "Warning" {
      errors.append(
        .invalid(FieldPath("type"), .string(event["type"].string ?? ""), "has invalid value"))
    }
    let involved = event["regarding"]["namespace"].string ?? ""
    let own = event["metadata"]["namespace"].string ?? ""
    if involved != own, !(involved.isEmpty && own == "default") {
      errors.append(
        .invalid(
          FieldPath("regarding").child("namespace"), .string(involved),
          "does not match event.namespace"))
    }
    return errors
  }
}

struct LeaseStrategy: ResourceStrategy {
  let allowsCreateOnUpdate = true
  let allowsUnconditionalUpdate = false

  func validate(_ lease: Value) -> [FieldError] {
    var errors: [FieldError] = []
    let path = FieldPath("spec")
    if let seconds = lease["spec"]["leaseDurationSeconds"].integer, seconds <= 0 {
      errors.append(
        .invalid(path.child("leaseDurationSeconds"), .integer(seconds), "must be greater than 0"))
    }
    if let transitions = lease["spec"]["leaseTransitions"].integer, transitions < 0 {
      errors.append(
        .invalid(
          path.child("leaseTransitions"), .integer(transitions),
          "must be greater than or equal to 0"))
    }
    return errors
  }
}

struct PriorityClassStrategy: ResourceStrategy {
  /// The highest value that isn't the system's.
  private static let highest: Int64 = 1_000_000_000

  func validate(_ object: Value) -> [FieldError] {
    let name = object["metadata"]["name"].string ?? ""
    let value = object["value"].integer ?? 0
    if name.hasPrefix("system-"),
      !["system-node-critical", "system-cluster-critical"].contains(name)
    {
      return [
        .forbidden(
          FieldPath("metadata").child("name"),
          "priority class names with 'system-' prefix are reserved for system use only. error: "
            + "\(name) is not a known system priority class")
      ]
    }
    if !name.hasPrefix("system-"), value > PriorityClassStrategy.highest {
      return [
        .forbidden(
          FieldPath("value"),
          "maximum allowed value of a user defined priority is \(PriorityClassStrategy.highest)")
      ]
    }
    var validation = PodValidation()
    validation.supported(
      object["preemptionPolicy"], ["Never", "PreemptLowerPriority"], FieldPath("preemptionPolicy"))
    return validation.errors
  }

  func validateUpdate(_ object: Value, from old: Value) -> [FieldError] {
    var errors: [FieldError] = []
    if object["value"].integer ?? 0 != old["value"].integer ?? 0 {
      errors.append(.forbidden(FieldPath("value"), "may not be changed in an update."))
    }
    if object["preemptionPolicy"] != old["preemptionPolicy"] {
      errors.append(
        .invalid(FieldPath("preemptionPolicy"), object["preemptionPolicy"], "field is immutable"))
    }
    return errors
  }
}
