// Deployments, ReplicaSets, DaemonSets and StatefulSets: a template, a selector and a number.

private enum Workload {
  static func validate(_ object: Value, kind: String) -> PodValidation {
    let spec = object["spec"]
    let path = FieldPath("spec")
    var validation = PodValidation()
    for key in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
      validation.notNegative(spec[key], path.child(key))
    }
    validation.errors += SelectorValidation.validate(spec, path, kind: kind)
    validation.validate(template: spec["template"], path.child("template"))
    let podPath = path.child("template", "spec")
    let policy = spec["template"]["spec"]["restartPolicy"]
    if !policy.isEmpty, policy != "Always" {
      validation.errors.append(
        .notSupported(podPath.child("restartPolicy"), policy, ["Always"]))
    }
    if !spec["template"]["spec"]["activeDeadlineSeconds"].isNull {
      validation.errors.append(
        .forbidden(
          podPath.child("activeDeadlineSeconds"),
          "activeDeadlineSeconds in ReplicaSet is not Supported"))
    }
    return validation
  }

  static func validateSelector(_ object: Value, _ old: Value) -> [FieldError] {
    SelectorValidation.validateImmutable(
      object["spec"]["selector"], old["spec"]["selector"], FieldPath("spec").child("selector"))
  }

  /// A number, or a percentage in a string, that isn't negative.
  static func amountProblems(_ value: Value, _ path: FieldPath) -> [FieldError] {
    switch value {
    case .null: return []
    case .integer(let number):
      return number < 0
        ? [.invalid(path, value, "must be greater than or equal to 0")] : []
    case .string(let text):
      return percentage(text) == nil
        ? [
          .invalid(
            path, value,
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. "
              + "'1%',  or '93%', regex used for validation is '[0-9]+%')")
        ] : []
    default: return [.invalid(path, value, "must be an integer or percentage (e.g '5%%')")]
    }
  }

  static func percentage(_ text: String) -> Int? {
    guard text.hasSuffix("%"), text.utf8.dropLast().allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }) else {
      return nil
    }
    return Int(text.dropLast())
  }

  static func isZero(_ value: Value) -> Bool {
    switch value {
    case .integer(let number): number == 0
    case .string(let text): percentage(text) == 0
    default: value.isNull
    }
  }

  static func isAboveAll(_ value: Value) -> Bool {
    (value.string.flatMap(percentage) ?? 0) > 100
  }
}

struct DeploymentStrategy: ResourceStrategy {
  let hasGeneration = true
  let hasStatus = true

  /// Annotations are part of what is rolled out: a change of them is a new generation, too.
  func changesGeneration(_ object: Value, from old: Value) -> Bool {
    object["spec"] != old["spec"]
      || object["metadata"]["annotations"] != old["metadata"]["annotations"]
  }

  func validate(_ deployment: Value) -> [FieldError] {
    var validation = Workload.validate(deployment, kind: "deployment")
    let spec = deployment["spec"]
    let path = FieldPath("spec")
    validation.errors += validateStrategy(spec["strategy"], path.child("strategy"))
    validation.notNegative(spec["progressDeadlineSeconds"], path.child("progressDeadlineSeconds"))
    if let deadline = spec["progressDeadlineSeconds"].integer,
      deadline <= spec["minReadySeconds"].integer ?? 0
    {
      validation.errors.append(
        .invalid(
          path.child("progressDeadlineSeconds"), .integer(deadline),
          "must be greater than minReadySeconds"))
    }
    return validation.errors
  }

  private func validateStrategy(_ strategy: Value, _ path: FieldPath) -> [FieldError] {
    let rolling = strategy["rollingUpdate"]
    switch strategy["type"].string {
    case "Recreate":
      return rolling.isNull
        ? []
        : [
          .forbidden(
            path.child("rollingUpdate"),
            "may not be specified when strategy `type` is 'Recreate'")
        ]
    case "RollingUpdate":
      let path = path.child("rollingUpdate")
      let unavailable = rolling["maxUnavailable"]
      let surge = rolling["maxSurge"]
      var errors = Workload.amountProblems(unavailable, path.child("maxUnavailable"))
      errors += Workload.amountProblems(surge, path.child("maxSurge"))
      if Workload.isZero(unavailable), Workload.isZero(surge) {
        errors.append(
          .invalid(
            path.child("maxUnavailable"), unavailable, "may not be 0 when `maxSurge` is 0"))
      }
      if Workload.isAboveAll(unavailable) {
        errors.append(
          .invalid(path.child("maxUnavailable"), unavailable, "must not be greater than 100%"))
      }
      return errors
    default:
      return [
        .notSupported(path, .string(strategy["type"].string ?? ""), ["Recreate", "RollingUpdate"])
      ]
    }
  }

  func validateUpdate(_ deployment: Value, from old: Value) -> [FieldError] {
    validate(deployment) + Workload.validateSelector(deployment, old)
  }

  func validateStatusUpdate(_ deployment: Value, from old: Value) -> [FieldError] {
    StatusCounts.validate(
      deployment["status"],
      [
        "observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas",
        "unavailableReplicas",
      ], notAbove: [("updatedReplicas", "replicas"), ("readyReplicas", "replicas")])
  }
}

struct ReplicaSetStrategy: ResourceStrategy {
  let hasGeneration = true
  let hasStatus = true

  func validate(_ object: Value) -> [FieldError] {
    Workload.validate(object, kind: "replicaset").errors
  }

  func validateUpdate(_ object: Value, from old: Value) -> [FieldError] {
    validate(object) + Workload.validateSelector(object, old)
  }

  func validateStatusUpdate(_ object: Value, from old: Value) -> [FieldError] {
    StatusCounts.validate(
      object["status"],
      [
        "observedGeneration", "replicas", "fullyLabeledReplicas", "readyReplicas",
        "availableReplicas",
      ], notAbove: [("fullyLabeledReplicas", "replicas"), ("readyReplicas", "replicas")])
  }
}

struct DaemonSetStrategy: ResourceStrategy {
  let hasGeneration = true
  let hasStatus = true

  func validate(_ object: Value) -> [FieldError] {
    Workload.validate(object, kind: "daemonset").errors
  }

  func validateUpdate(_ object: Value, from old: Value) -> [FieldError] {
    validate(object) + Workload.validateSelector(object, old)
  }
}

struct StatefulSetStrategy: ResourceStrategy {
  let hasGeneration = true
  let hasStatus = true

  /// What may change in a StatefulSet that exists.
  private static let mutable = [
    "replicas", "ordinals", "template", "updateStrategy", "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds", "revisionHistoryLimit",
  ]

  func validate(_ object: Value) -> [FieldError] {
    var validation = Workload.validate(object, kind: "statefulset")
    let path = FieldPath("spec")
    validation.supported(
      object["spec"]["podManagementPolicy"], ["OrderedReady", "Parallel"],
      path.child("podManagementPolicy"))
    validation.supported(
      object["spec"]["updateStrategy"]["type"], ["OnDelete", "RollingUpdate"],
      path.child("updateStrategy"))
    return validation.errors
  }

  func validateUpdate(_ object: Value, from old: Value) -> [FieldError] {
    var fixed = object["spec"]
    for key in StatefulSetStrategy.mutable { fixed[key] = old["spec"][key] }
    if fixed == old["spec"] { return validate(object) }
    return validate(object) + [
      .forbidden(
        FieldPath("spec"),
        "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
          + "'updateStrategy', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are "
          + "forbidden")
    ]
  }
}

/// A version of a DaemonSet's or StatefulSet's template.
struct ControllerRevisionStrategy: ResourceStrategy {
  func validate(_ object: Value) -> [FieldError] {
    var validation = PodValidation()
    validation.notNegative(object["revision"], FieldPath("revision"))
    return validation.errors
  }

  func validateUpdate(_ object: Value, from old: Value) -> [FieldError] {
    validate(object)
      + (object["data"] == old["data"]
        ? [] : [.invalid(FieldPath("data"), object["data"], "field is immutable")])
  }
}

/// Counts in a status: none negative, parts not above their whole.
enum StatusCounts {
  static func validate(
    _ status: Value, _ counts: [String], notAbove: [(part: String, whole: String)]
  ) -> [FieldError] {
    var validation = PodValidation()
    let path = FieldPath("status")
    for count in counts { validation.notNegative(status[count], path.child(count)) }
    for (part, whole) in notAbove
    where status[part].integer ?? 0 > status[whole].integer ?? 0 {
      validation.errors.append(
        .invalid(path.child(part), status[part], "cannot be greater than status.\(whole)"))
    }
    return validation.errors
  }
}
