/// Services. Cluster addresses and node ports are given by the server (`ServiceAllocation`); here is what
/// needs nothing but the object: which of them belong to which type, what stays on an update, what is
/// wrong.
struct ServiceStrategy: ResourceStrategy {
  let hasStatus = true

  private static let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]

  func prepareForCreate(_ service: inout Value) {
    service["status"] = ["loadBalancer": [:]]
    ServiceStrategy.alignAddresses(&service, from: .null)
    ServiceStrategy.dropForeignFields(&service, from: .null)
  }

  func prepareForUpdate(_ service: inout Value, from old: Value) {
    standardPrepareForUpdate(&service, from: old)
    ServiceStrategy.keepAllocations(&service, from: old)
    ServiceStrategy.alignAddresses(&service, from: old)
    ServiceStrategy.dropForeignFields(&service, from: old)
  }

  func nameProblems(_ name: String, isPrefix: Bool) -> [String] {
    Names.serviceNameProblems(name, isPrefix: isPrefix)
  }

  // MARK: Allocated fields

  static func needsAddress(_ spec: Value) -> Bool { spec["type"] != "ExternalName" }

  static func needsNodePorts(_ spec: Value) -> Bool {
    spec["type"] == "NodePort"
      || spec["type"] == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false
  }

  static func needsHealthPort(_ spec: Value) -> Bool {
    spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local"
  }

  /// A client that leaves out what the server gave keeps it.
  private static func keepAllocations(_ service: inout Value, from old: Value) {
    let before = old["spec"]
    if needsAddress(service["spec"]), needsAddress(before) {
      for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"]
      where service["spec"][key].isEmpty {
        service["spec"][key] = before[key]
      }
    }
    if needsNodePorts(service["spec"]), needsNodePorts(before) {
      for index in service["spec"]["ports"].elements.indices
      where service["spec"]["ports"][index]["nodePort"].integer ?? 0 == 0 {
        let port = service["spec"]["ports"][index]
        let known = before["ports"].elements.first {
          $0["port"] == port["port"] && $0["protocol"] == port["protocol"]
        }
        // One that another port of the service asks for by now is not kept.
        guard let number = known?["nodePort"], number.integer ?? 0 != 0,
          !service["spec"]["ports"].elements.contains(where: { $0["nodePort"] == number })
        else { continue }
        service["spec"]["ports"][index]["nodePort"] = number
      }
    }
    if needsHealthPort(service["spec"]), needsHealthPort(before),
      service["spec"]["healthCheckNodePort"].integer ?? 0 == 0
    {
      service["spec"]["healthCheckNodePort"] = before["healthCheckNodePort"]
    }
  }

  /// `clusterIP` is the first of `clusterIPs`; old clients write only the former.
  private static func alignAddresses(_ service: inout Value, from old: Value) {
    let spec = service["spec"]
    guard let address = spec["clusterIP"].string, !address.isEmpty else {
      let wasSet = !(old["spec"]["clusterIP"].isEmpty)
      if wasSet, spec["clusterIPs"] == old["spec"]["clusterIPs"] {
        service["spec"]["clusterIPs"] = .null
      }
      return
    }
    let isUntouched = spec["clusterIPs"].isEmpty || spec["clusterIPs"] == old["spec"]["clusterIPs"]
    if isUntouched, spec["clusterIPs"][0].string != address {
      service["spec"]["clusterIPs"] = [Value(address)]
    }
  }

  /// What belonged to the type that a service had before goes with it, unless the writer changed it.
  private static func dropForeignFields(_ service: inout Value, from old: Value) {
    let before = old["spec"]
    func isLeftOver(_ key: String) -> Bool { service["spec"][key] == before[key] }
    if !needsAddress(service["spec"]), needsAddress(before), !before.isNull {
      for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] where isLeftOver(key) {
        service["spec"].remove(key)
      }
    }
    if service["spec"]["type"] == "ExternalName" {
      for key in ["externalTrafficPolicy", "internalTrafficPolicy"] where isLeftOver(key) {
        service["spec"].remove(key)
      }
    } else if isLeftOver("externalName") {
      service["spec"].remove("externalName")
    }
    let isOutside = ["NodePort", "LoadBalancer"].contains(service["spec"]["type"].string)
    if !isOutside {
      let known = before["ports"].elements.map { $0["nodePort"] }
      for index in service["spec"]["ports"].elements.indices
      where known.contains(service["spec"]["ports"][index]["nodePort"]) {
        service["spec"]["ports"][index].remove("nodePort")
      }
      if isLeftOver("externalTrafficPolicy") { service["spec"].remove("externalTrafficPolicy") }
    }
    if service["spec"]["type"] != "LoadBalancer" {
      for key in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] where isLeftOver(key) {
        service["spec"].remove(key)
      }
    }
    if !needsHealthPort(service["spec"]), isLeftOver("healthCheckNodePort") {
      service["spec"].remove("healthCheckNodePort")
    }
    if service["spec"]["sessionAffinity"] == "None", isLeftOver("sessionAffinityConfig") {
      service["spec"].remove("sessionAffinityConfig")
    }
  }

  // MARK: Validation

  func validate(_ service: Value) -> [FieldError] {
    let spec = service["spec"]
    let path = FieldPath("spec")
    var validation = PodValidation()
    validation.supported(spec["type"], ServiceStrategy.types, path.child("type"), isRequired: true)
    validation.supported(
      spec["sessionAffinity"], ["ClientIP", "None"], path.child("sessionAffinity"),
      isRequired: true)
    validateAffinity(spec, path, &validation)
    let isHeadless = spec["clusterIP"] == "None"
    let isExternal = spec["type"] == "ExternalName"
    if spec["ports"].isEmpty, !isHeadless, !isExternal {
      validation.errors.append(.required(path.child("ports")))
    }
    if isExternal {
      if spec["externalName"].isEmpty {
        validation.errors.append(.required(path.child("externalName")))
      } else {
        validation.named(spec["externalName"], path.child("externalName")) {
          Names.subdomainProblems($0.hasSuffix(".") ? String($0.dropLast()) : $0)
        }
      }
      for key in ["clusterIP", "clusterIPs"] where !spec[key].isEmpty {
        validation.errors.append(
          .forbidden(path.child(key), "may not be set when `type` is 'ExternalName'"))
      }
    } else {
      validateAddresses(spec, path, &validation)
    }
    if isHeadless, ["NodePort", "LoadBalancer"].contains(spec["type"].string) {
      validation.errors.append(
        .invalid(
          path.child("clusterIPs").index(0), "None",
          "may not be set to 'None' for \(spec["type"].string ?? "") services"))
    }
    validatePolicies(spec, path, &validation)
    validatePorts(spec, path.child("ports"), &validation)
    validation.errors += MetadataValidation.validateLabels(
      spec["selector"], path.child("selector"))
    for (index, address) in spec["externalIPs"].elements.enumerated()
    where !IPAddress.isValid(address.string ?? "") {
      validation.errors.append(
        .invalid(path.child("externalIPs").index(index), address, ServiceStrategy.noAddress))
    }
    return validation.errors
  }

  private static let noAddress = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"

  private func validateAffinity(
    _ spec: Value, _ path: FieldPath, _ validation: inout PodValidation
  ) {
    let config = spec["sessionAffinityConfig"]
    if spec["sessionAffinity"] == "ClientIP" {
      let seconds = config["clientIP"]["timeoutSeconds"]
      let limit: Int64 = 86_400
      if let number = seconds.integer, number <= 0 || number > limit {
        validation.errors.append(
          .invalid(
            path.child("sessionAffinityConfig", "clientIP", "timeoutSeconds"), seconds,
            "must be greater than 0 and less than \(limit)"))
      }
    } else if !config.isNull {
      validation.errors.append(
        .forbidden(
          path.child("sessionAffinityConfig"),
          "must not be set when session affinity is None"))
    }
  }

  private func validateAddresses(
    _ spec: Value, _ path: FieldPath, _ validation: inout PodValidation
  ) {
    let addresses = spec["clusterIPs"].strings
    let path = path.child("clusterIPs")
    let first = spec["clusterIP"].string ?? ""
    if first.isEmpty, !addresses.isEmpty {
      validation.errors.append(
        .invalid(path, spec["clusterIPs"], "must be empty when `clusterIP` is not specified"))
    } else if !first.isEmpty, first != addresses.first {
      validation.errors.append(
        .invalid(path, spec["clusterIPs"], "first value must match `clusterIP`"))
    }
    if addresses.count > 2 {
      validation.errors.append(
        .invalid(path, spec["clusterIPs"], "may only hold up to 2 values"))
    }
    for (index, address) in addresses.enumerated() where !IPAddress.isValid(address) {
      if address == "None", index == 0, addresses.count == 1 { continue }
      validation.errors.append(
        .invalid(path.index(index), .string(address), ServiceStrategy.noAddress))
    }
    if !spec["ipFamilyPolicy"].isNull {
      validation.supported(
        spec["ipFamilyPolicy"], ["PreferDualStack", "RequireDualStack", "SingleStack"],
        FieldPath("spec").child("ipFamilyPolicy"))
    }
    for (index, family) in spec["ipFamilies"].elements.enumerated() {
      validation.supported(
        family, ["IPv4", "IPv6"], FieldPath("spec").child("ipFamilies").index(index))
    }
  }

  private func validatePolicies(
    _ spec: Value, _ path: FieldPath, _ validation: inout PodValidation
  ) {
    let isOutside =
      ["NodePort", "LoadBalancer"].contains(spec["type"].string) || !spec["externalIPs"].isEmpty
    let external = spec["externalTrafficPolicy"]
    if isOutside {
      validation.supported(external, ["Cluster", "Local"], path.child("externalTrafficPolicy"))
    } else if !external.isNull {
      validation.errors.append(
        .invalid(
          path.child("externalTrafficPolicy"), external,
          "may only be set for externally-accessible services"))
    }
    if spec["type"] != "ExternalName" {
      validation.supported(
        spec["internalTrafficPolicy"], ["Cluster", "Local"], path.child("internalTrafficPolicy"))
    }
    if spec["type"] != "LoadBalancer" {
      for key in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] where !spec[key].isNull {
        validation.errors.append(
          .forbidden(path.child(key), "may only be used when `type` is 'LoadBalancer'"))
      }
    }
    if spec["healthCheckNodePort"].integer ?? 0 != 0, !ServiceStrategy.needsHealthPort(spec) {
      validation.errors.append(
        .invalid(
          path.child("healthCheckNodePort"), spec["healthCheckNodePort"],
          "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
    }
  }

  private func validatePorts(
    _ spec: Value, _ path: FieldPath, _ validation: inout PodValidation
  ) {
    let ports = spec["ports"].elements
    var names: Set<String> = []
    var taken: Set<String> = []
    var nodePorts: Set<String> = []
    for (index, port) in ports.enumerated() {
      let path = path.index(index)
      let name = port["name"].string ?? ""
      if name.isEmpty {
        if ports.count > 1 { validation.errors.append(.required(path.child("name"))) }
      } else {
        validation.named(port["name"], path.child("name")) { Names.labelProblems($0) }
        if !names.insert(name).inserted {
          validation.errors.append(.duplicate(path.child("name"), port["name"]))
        }
      }
      validation.port(port["port"], path.child("port"))
      validation.supported(
        port["protocol"], ["SCTP", "TCP", "UDP"], path.child("protocol"), isRequired: true)
      switch port["targetPort"] {
      case .string(let name):
        validation.errors += Names.portNameProblems(name).map {
          .invalid(path.child("targetPort"), port["targetPort"], $0)
        }
      case .null: break
      default: validation.port(port["targetPort"], path.child("targetPort"))
      }
      let protocolName = port["protocol"].string ?? ""
      if let number = port["nodePort"].integer, number != 0 {
        if !["NodePort", "LoadBalancer"].contains(spec["type"].string) {
          validation.errors.append(
            .forbidden(
              path.child("nodePort"),
              "may not be used when `type` is '\(spec["type"].string ?? "")'"))
        } else if !nodePorts.insert("\(protocolName)/\(number)").inserted {
          validation.errors.append(.duplicate(path.child("nodePort"), port["nodePort"]))
        }
      }
      let identity = "\(protocolName)/\(port["port"].integer ?? 0)"
      if !taken.insert(identity).inserted {
        validation.errors.append(.duplicate(path, port))
      }
    }
  }

  func validateUpdate(_ service: Value, from old: Value) -> [FieldError] {
    var errors = validate(service)
    let before = old["spec"]["clusterIPs"][0].string ?? old["spec"]["clusterIP"].string ?? ""
    if ServiceStrategy.needsAddress(old["spec"]), ServiceStrategy.needsAddress(service["spec"]),
      !before.isEmpty, service["spec"]["clusterIPs"][0].string != before
    {
      errors.append(
        .invalid(
          FieldPath("spec").child("clusterIPs").index(0), service["spec"]["clusterIPs"][0],
          "may not change once set"))
    }
    return errors
  }
}
