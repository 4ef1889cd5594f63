/// Pods: created by people or controllers, bound by the scheduler, run by a node.
struct PodStrategy: ResourceStrategy {
  let hasStatus = true

  func applyDefaults(_ pod: inout Value) {
    pod["spec"].setDefault("enableServiceLinks", to: true)
    PodDefaults.requestsFromLimits(&pod["spec"])
    if pod["spec"]["hostNetwork"] == true { PodDefaults.hostPorts(&pod["spec"]) }
  }

  func prepareForCreate(_ pod: inout Value) {
    pod["status"] = ["phase": "Pending", "qosClass": Value(PodView(pod).qualityOfService.rawValue)]
    let gates = pod["spec"]["schedulingGates"].elements
    if !gates.isEmpty {
      pod["status"]["conditions"] = [
        [
          "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
          "message": "Scheduling is blocked due to non-empty scheduling gates",
          "lastTransitionTime": pod["metadata"]["creationTimestamp"],
        ]
      ]
    }
  }

  func prepareForStatusUpdate(_ pod: inout Value, from old: Value) {
    standardPrepareForStatusUpdate(&pod, from: old)
    // Known from the specification, whatever the writer sends.
    if pod["status"]["qosClass"].isEmpty {
      pod["status"]["qosClass"] =
        old["status"]["qosClass"].isEmpty
        ? Value(PodView(old).qualityOfService.rawValue) : old["status"]["qosClass"]
    }
  }

  func validate(_ pod: Value) -> [FieldError] {
    var validation = PodValidation()
    validation.validate(spec: pod["spec"], FieldPath("spec"), isPod: true)
    validation.validateSystemAnnotations(pod)
    return validation.errors
  }

  func validateUpdate(_ pod: Value, from old: Value) -> [FieldError] {
    let path = FieldPath("spec")
    var errors: [FieldError] = []
    if pod["spec"]["containers"].elements.count != old["spec"]["containers"].elements.count {
      return [
        .forbidden(path.child("containers"), "pod updates may not add or remove containers")
      ]
    }
    if pod["spec"]["initContainers"].elements.count
      != old["spec"]["initContainers"].elements.count
    {
      return [
        .forbidden(path.child("initContainers"), "pod updates may not add or remove containers")
      ]
    }
    for list in ["containers", "initContainers"] {
      for (index, container) in pod["spec"][list].elements.enumerated()
      where container["image"].isEmpty {
        errors.append(.required(path.child(list).index(index).child("image")))
      }
    }
    errors += deadlineProblems(pod, old, path.child("activeDeadlineSeconds"))
    errors += tolerationProblems(pod, old, path.child("tolerations"))
    // The rest must be as it was.
    var comparable = pod["spec"]
    let before = old["spec"]
    for list in ["containers", "initContainers"] {
      for index in comparable[list].elements.indices {
        comparable[list][index]["image"] = before[list][index]["image"]
      }
    }
    for key in ["activeDeadlineSeconds", "tolerations"] { comparable[key] = before[key] }
    if comparable["terminationGracePeriodSeconds"] == 1,
      before["terminationGracePeriodSeconds"].integer ?? 0 < 0
    {
      comparable["terminationGracePeriodSeconds"] = before["terminationGracePeriodSeconds"]
    }
    let gates = comparable["schedulingGates"].elements
    if gates.allSatisfy({ before["schedulingGates"].elements.contains($0) }) {
      comparable["schedulingGates"] = before["schedulingGates"]
      // A gated pod isn't scheduled yet: where it may go can still be narrowed.
      if !before["schedulingGates"].isEmpty {
        for key in ["nodeSelector", "affinity"] { comparable[key] = before[key] }
      }
    } else {
      errors.append(
        .forbidden(
          path.child("schedulingGates"), "only deletion is allowed, but found new scheduling gate"))
      comparable["schedulingGates"] = before["schedulingGates"]
    }
    if comparable != before {
      errors.append(
        .forbidden(
          path,
          "pod updates may not change fields other than `spec.containers[*].image`,"
            + "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
            + "additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to "
            + "be set to 1 if it was previously negative)"))
    }
    return errors
  }

  private func deadlineProblems(_ pod: Value, _ old: Value, _ path: FieldPath) -> [FieldError] {
    let new = pod["spec"]["activeDeadlineSeconds"]
    let before = old["spec"]["activeDeadlineSeconds"]
    if new == before { return [] }
    guard let seconds = new.integer else {
      return [.invalid(path, new, "must not update from a positive integer to nil value")]
    }
    if seconds < 0 || seconds > Int64(Int32.max) {
      return [.invalid(path, new, "must be between 0 and 2147483647, inclusive")]
    }
    if let before = before.integer, seconds > before {
      return [.invalid(path, new, "must be less than or equal to previous value")]
    }
    return []
  }

  private func tolerationProblems(_ pod: Value, _ old: Value, _ path: FieldPath) -> [FieldError] {
    let new = pod["spec"]["tolerations"].elements
    for toleration in old["spec"]["tolerations"].elements
    where !new.contains(where: {
      var a = $0
      var b = toleration
      a.remove("tolerationSeconds")
      b.remove("tolerationSeconds")
      return a == b
    }) {
      return [
        .forbidden(path, "existing toleration can not be modified except its tolerationSeconds")
      ]
    }
    var validation = PodValidation()
    validation.validate(tolerations: pod["spec"]["tolerations"], path)
    return validation.errors
  }

  func validateStatusUpdate(_ pod: Value, from old: Value) -> [FieldError] {
    let node = old["spec"]["nodeName"]
    if node.isEmpty, !pod["status"]["nominatedNodeName"].isEmpty {
      let path = FieldPath("status").child("nominatedNodeName")
      return Names.subdomainProblems(pod["status"]["nominatedNodeName"].string ?? "").map {
        .invalid(path, pod["status"]["nominatedNodeName"], $0)
      }
    }
    return []
  }
}

/// Defaults of pods that depend on more than one field. Templates don't get them; their pods do.
enum PodDefaults {
  /// What isn't requested but limited is requested up to the limit.
  static func requestsFromLimits(_ spec: inout Value) {
    for list in ["containers", "initContainers"] {
      for index in spec[list].elements.indices {
        let limits = spec[list][index]["resources"]["limits"]
        for limit in limits.members
        where spec[list][index]["resources"]["requests"][limit.key].isNull {
          spec[list][index]["resources"]["requests"][limit.key] = limit.value
        }
      }
    }
  }

  /// On the host's network a container's port is the host's.
  static func hostPorts(_ spec: inout Value) {
    for list in ["containers", "initContainers"] {
      for index in spec[list].elements.indices {
        for port in spec[list][index]["ports"].elements.indices
        where spec[list][index]["ports"][port]["hostPort"].integer ?? 0 == 0 {
          let number = spec[list][index]["ports"][port]["containerPort"]
          spec[list][index]["ports"][port]["hostPort"] = number
        }
      }
    }
  }
}
