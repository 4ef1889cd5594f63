/// What holds for a pod's specification, alone or in a template.
///
/// Source of rules and texts: the Kubernetes API reference and the error messages that its users
/// know. Checks of volume plug-ins that no node here could mount anyway are left out.
struct PodValidation {
  var errors: [FieldError] = []

  private static let restartPolicies = ["Always", "OnFailure", "Never"]
  private static let dnsPolicies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]

  mutating func validate(template: Value, _ path: FieldPath) {
    errors += MetadataValidation.validateLabels(
      template["metadata"]["labels"], path.child("metadata", "labels"))
    errors += MetadataValidation.validateAnnotations(
      template["metadata"]["annotations"], path.child("metadata", "annotations"))
    validate(spec: template["spec"], path.child("spec"), isPod: false)
    if !template["spec"]["ephemeralContainers"].isEmpty {
      errors.append(
        .forbidden(
          path.child("spec", "ephemeralContainers"),
          "ephemeral containers not allowed in pod template"))
    }
  }

  mutating func validate(spec: Value, _ path: FieldPath, isPod: Bool) {
    let volumes = validateVolumes(spec["volumes"], path.child("volumes"))
    validateContainers(spec, volumes, path)
    supported(
      spec["restartPolicy"], PodValidation.restartPolicies, path.child("restartPolicy"),
      isRequired: true)
    supported(
      spec["dnsPolicy"], PodValidation.dnsPolicies, path.child("dnsPolicy"), isRequired: true)
    if spec["dnsPolicy"] == "None", spec["dnsConfig"]["nameservers"].isEmpty {
      errors.append(
        .required(
          path.child("dnsConfig"),
          "must provide `dnsConfig` when `dnsPolicy` is None"))
    }
    errors += MetadataValidation.validateLabels(spec["nodeSelector"], path.child("nodeSelector"))
    validateSecurity(spec, path)
    for (index, secret) in spec["imagePullSecrets"].elements.enumerated()
    where secret["name"].isEmpty {
      errors.append(.required(path.child("imagePullSecrets").index(index).child("name")))
    }
    named(spec["serviceAccountName"], path.child("serviceAccountName")) {
      Names.subdomainProblems($0)
    }
    named(spec["nodeName"], path.child("nodeName")) { Names.subdomainProblems($0) }
    named(spec["priorityClassName"], path.child("priorityClassName")) {
      Names.subdomainProblems($0)
    }
    named(spec["runtimeClassName"], path.child("runtimeClassName")) { Names.subdomainProblems($0) }
    named(spec["hostname"], path.child("hostname")) { Names.labelProblems($0) }
    named(spec["subdomain"], path.child("subdomain")) { Names.labelProblems($0) }
    if let seconds = spec["activeDeadlineSeconds"].integer,
      seconds < 1 || seconds > Int64(Int32.max)
    {
      errors.append(
        .invalid(
          path.child("activeDeadlineSeconds"), .integer(seconds),
          "must be between 1 and 2147483647, inclusive"))
    }
    validateAffinity(spec["affinity"], path.child("affinity"))
    validate(tolerations: spec["tolerations"], path.child("tolerations"))
    validateSpread(
      spec["topologySpreadConstraints"], path.child("topologySpreadConstraints"))
    for (index, alias) in spec["hostAliases"].elements.enumerated() {
      let path = path.child("hostAliases").index(index)
      if !IPAddress.isValid(alias["ip"].string ?? "") {
        errors.append(
          .invalid(
            path.child("ip"), alias["ip"],
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))
      }
      for host in alias["hostnames"].elements {
        named(host, path.child("hostnames")) { Names.subdomainProblems($0) }
      }
    }
    for (index, gate) in spec["readinessGates"].elements.enumerated() {
      named(
        gate["conditionType"], path.child("readinessGates").index(index).child("conditionType"),
        rule: Names.qualifiedNameProblems)
    }
    if isPod { validateGates(spec, path) }
  }

  private mutating func validateGates(_ spec: Value, _ path: FieldPath) {
    let gates = spec["schedulingGates"].elements
    var seen: Set<String> = []
    for (index, gate) in gates.enumerated() {
      let path = path.child("schedulingGates").index(index)
      named(gate["name"], path.child("name"), rule: Names.qualifiedNameProblems)
      if !seen.insert(gate["name"].string ?? "").inserted {
        errors.append(.duplicate(path.child("name"), gate["name"]))
      }
    }
    if !gates.isEmpty, !spec["nodeName"].isEmpty {
      errors.append(
        .forbidden(
          path.child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
    }
  }

  private mutating func validateSecurity(_ spec: Value, _ path: FieldPath) {
    let security = spec["securityContext"]
    let path = path.child("securityContext")
    for key in ["runAsUser", "runAsGroup", "fsGroup"] {
      identifier(security[key], path.child(key))
    }
    for (index, group) in security["supplementalGroups"].elements.enumerated() {
      identifier(group, path.child("supplementalGroups").index(index))
    }
    if spec["shareProcessNamespace"] == true, spec["hostPID"] == true {
      errors.append(
        .invalid(
          path.child("shareProcessNamespace"), true,
          "ShareProcessNamespace and HostPID cannot both be enabled"))
    }
  }

  mutating func validateSystemAnnotations(_ pod: Value) {
    if pod["metadata"]["annotations"].has("kubernetes.io/config.mirror"),
      pod["spec"]["nodeName"].isEmpty
    {
      errors.append(
        .invalid(
          FieldPath("metadata").child("annotations").key("kubernetes.io/config.mirror"), "",
          "must set spec.nodeName if mirror pod annotation is set"))
    }
  }

  // MARK: Scheduling

  private static let effects = ["NoExecute", "NoSchedule", "PreferNoSchedule"]

  mutating func validate(tolerations: Value, _ path: FieldPath) {
    for (index, toleration) in tolerations.elements.enumerated() {
      let path = path.index(index)
      let key = toleration["key"].string ?? ""
      if !key.isEmpty {
        named(toleration["key"], path.child("key"), rule: Names.qualifiedNameProblems)
      }
      let kind = toleration["operator"].string ?? ""
      if key.isEmpty, kind != "Exists" {
        errors.append(
          .invalid(
            path.child("operator"), .string(kind),
            "operator must be Exists when `key` is empty, which means \"match all values and all "
              + "keys\""))
      }
      if !toleration["tolerationSeconds"].isNull, toleration["effect"] != "NoExecute" {
        errors.append(
          .invalid(
            path.child("effect"), .string(toleration["effect"].string ?? ""),
            "effect must be 'NoExecute' when `tolerationSeconds` is set"))
      }
      switch kind {
      case "", "Equal":
        errors += Names.labelValueProblems(toleration["value"].string ?? "").prefix(1).map {
          .invalid(path.child("operator"), toleration["value"], $0)
        }
      case "Exists":
        if !toleration["value"].isEmpty {
          errors.append(
            .invalid(
              path.child("operator"), toleration["value"],
              "value must be empty when `operator` is 'Exists'"))
        }
      default:
        errors.append(.notSupported(path.child("operator"), .string(kind), ["Equal", "Exists"]))
      }
      if !toleration["effect"].isEmpty {
        supported(toleration["effect"], PodValidation.effects, path.child("effect"))
      }
    }
  }

  private mutating func validateAffinity(_ affinity: Value, _ path: FieldPath) {
    let node = affinity["nodeAffinity"]
    let nodePath = path.child("nodeAffinity")
    let required = "requiredDuringSchedulingIgnoredDuringExecution"
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution"
    if node.has(required) {
      let path = nodePath.child(required, "nodeSelectorTerms")
      let terms = node[required]["nodeSelectorTerms"].elements
      if terms.isEmpty {
        errors.append(.required(path, "must have at least one node selector term"))
      }
      for (index, term) in terms.enumerated() { validateTerm(term, path.index(index)) }
    }
    for (index, item) in node[preferred].elements.enumerated() {
      let path = nodePath.child(preferred).index(index)
      validateWeight(item["weight"], path.child("weight"))
      validateTerm(item["preference"], path.child("preference"))
    }
    for name in ["podAffinity", "podAntiAffinity"] {
      let path = path.child(name)
      for (index, term) in affinity[name][required].elements.enumerated() {
        validatePodTerm(term, path.child(required).index(index))
      }
      for (index, item) in affinity[name][preferred].elements.enumerated() {
        let path = path.child(preferred).index(index)
        validateWeight(item["weight"], path.child("weight"))
        validatePodTerm(item["podAffinityTerm"], path.child("podAffinityTerm"))
      }
    }
  }

  private mutating func validateWeight(_ weight: Value, _ path: FieldPath) {
    let number = weight.integer ?? 0
    if number < 1 || number > 100 {
      errors.append(.invalid(path, .integer(number), "must be in the range 1-100"))
    }
  }

  private mutating func validatePodTerm(_ term: Value, _ path: FieldPath) {
    errors += SelectorValidation.validate(term["labelSelector"], path.child("labelSelector"))
    errors += SelectorValidation.validate(
      term["namespaceSelector"], path.child("namespaceSelector"))
    if term["topologyKey"].isEmpty {
      errors.append(.required(path.child("topologyKey"), "can not be empty"))
    } else {
      named(term["topologyKey"], path.child("topologyKey"), rule: Names.qualifiedNameProblems)
    }
  }

  private static let nodeOperators = ["DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"]

  private mutating func validateTerm(_ term: Value, _ path: FieldPath) {
    for list in ["matchExpressions", "matchFields"] {
      for (index, requirement) in term[list].elements.enumerated() {
        let path = path.child(list).index(index)
        let values = requirement["values"].elements
        switch requirement["operator"].string {
        case "In", "NotIn":
          if values.isEmpty {
            errors.append(
              .required(
                path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'"))
          }
        case "Exists", "DoesNotExist":
          if !values.isEmpty {
            errors.append(
              .forbidden(
                path.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"))
          }
        case "Gt", "Lt":
          if values.count != 1 {
            errors.append(
              .required(
                path.child("values"),
                "must be specified single value when `operator` is 'Lt' or 'Gt'"))
          }
        default:
          errors.append(
            .invalid(
              path.child("operator"), requirement["operator"], "not a valid selector operator"))
        }
        if list == "matchExpressions" {
          named(requirement["key"], path.child("key"), rule: Names.qualifiedNameProblems)
        } else if requirement["key"] != "metadata.name" {
          errors.append(
            .invalid(path.child("key"), requirement["key"], "not a valid field selector key"))
        }
      }
    }
  }

  private mutating func validateSpread(_ constraints: Value, _ path: FieldPath) {
    for (index, constraint) in constraints.elements.enumerated() {
      let path = path.index(index)
      let skew = constraint["maxSkew"].integer ?? 0
      if skew <= 0 {
        errors.append(
          .invalid(path.child("maxSkew"), .integer(skew), "must be greater than zero"))
      }
      if constraint["topologyKey"].isEmpty {
        errors.append(.required(path.child("topologyKey"), "can not be empty"))
      }
      supported(
        constraint["whenUnsatisfiable"], ["DoNotSchedule", "ScheduleAnyway"],
        path.child("whenUnsatisfiable"))
      errors += SelectorValidation.validate(
        constraint["labelSelector"], path.child("labelSelector"))
    }
  }

  // MARK: Small rules

  /// A value out of a list; the empty one is missing where `isRequired`.
  mutating func supported(
    _ value: Value, _ list: [String], _ path: FieldPath, isRequired: Bool = false
  ) {
    if value.isEmpty, isRequired {
      errors.append(.required(path))
    } else if !list.contains(value.string ?? "") {
      errors.append(.notSupported(path, .string(value.string ?? ""), list))
    }
  }

  /// A name that follows a rule, if it is there.
  mutating func named(_ value: Value, _ path: FieldPath, rule: (String) -> [String]) {
    guard let name = value.string, !name.isEmpty else { return }
    errors += rule(name).map { .invalid(path, value, $0) }
  }

  mutating func identifier(_ value: Value, _ path: FieldPath) {
    guard let number = value.integer else { return }
    if number < 0 || number > Int64(Int32.max) {
      errors.append(.invalid(path, value, "must be between 0 and 2147483647, inclusive"))
    }
  }

  mutating func notNegative(_ value: Value, _ path: FieldPath) {
    if let number = value.integer, number < 0 {
      errors.append(.invalid(path, value, "must be greater than or equal to 0"))
    }
  }

  mutating func port(_ value: Value, _ path: FieldPath) {
    let number = value.integer ?? 0
    if number < 1 || number > 65535 {
      errors.append(.invalid(path, .integer(number), "must be between 1 and 65535, inclusive"))
    }
  }
}
