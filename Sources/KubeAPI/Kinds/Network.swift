// Services, their endpoints, and disruption budgets.

struct ServiceStrategy: ResourceStrategy {
  let hasStatus = true

  private static let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]

  func prepareForCreate(_ service: inout Value) {
    service["status"] = ["loadBalancer": [:]]
  }

  func nameProblems(_ name: String, isPrefix: Bool) -> [String] {
    Names.serviceNameProblems(name, isPrefix: isPrefix)
  }

  func validate(_ service: Value) -> [FieldError] {
    let spec = service["spec"]
    let path = FieldPath("spec")
    var validation = PodValidation()
    validation.supported(spec["type"], ServiceStrategy.types, path.child("type"), isRequired: true)
    validation.supported(
      spec["sessionAffinity"], ["ClientIP", "None"], path.child("sessionAffinity"),
      isRequired: true)
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
          Names.subdomainProblems($0)
        }
      }
    }
    validatePorts(spec, path.child("ports"), &validation)
    validation.errors += MetadataValidation.validateLabels(
      spec["selector"], path.child("selector"))
    if let address = spec["clusterIP"].string, !address.isEmpty, !isHeadless,
      !IPAddress.isValid(address)
    {
      validation.errors.append(
        .invalid(
          path.child("clusterIPs").index(0), spec["clusterIP"],
          "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))
    }
    return validation.errors
  }

  private func validatePorts(
    _ spec: Value, _ path: FieldPath, _ validation: inout PodValidation
  ) {
    let ports = spec["ports"].elements
    var names: Set<String> = []
    var taken: Set<String> = []
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
      if port["nodePort"].integer ?? 0 != 0, spec["type"] == "ClusterIP" {
        validation.errors.append(
          .forbidden(path.child("nodePort"), "may not be used when `type` is 'ClusterIP'"))
      }
      let identity = "\(port["protocol"].string ?? "")/\(port["port"].integer ?? 0)"
      if !taken.insert(identity).inserted {
        validation.errors.append(.duplicate(path, port))
      }
    }
  }

  func validateUpdate(_ service: Value, from old: Value) -> [FieldError] {
    var errors = validate(service)
    let wasExternal = old["spec"]["type"] == "ExternalName"
    let before = old["spec"]["clusterIP"]
    if !wasExternal, service["spec"]["type"] != "ExternalName", !before.isEmpty,
      service["spec"]["clusterIP"] != before
    {
      errors.append(
        .invalid(
          FieldPath("spec").child("clusterIPs").index(0), service["spec"]["clusterIP"],
          "may not change once set"))
    }
    return errors
  }
}

struct EndpointsStrategy: ResourceStrategy {
  func validate(_ endpoints: Value) -> [FieldError] {
    var errors: [FieldError] = []
    for (index, subset) in endpoints["subsets"].elements.enumerated() {
      let path = FieldPath("subsets").index(index)
      for list in ["addresses", "notReadyAddresses"] {
        for (index, address) in subset[list].elements.enumerated()
        where !IPAddress.isValid(address["ip"].string ?? "") {
          errors.append(
            .invalid(
              path.child(list).index(index).child("ip"), .string(address["ip"].string ?? ""),
              "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))
        }
      }
    }
    return errors
  }
}

struct EndpointSliceStrategy: ResourceStrategy {
  let hasGeneration = true

  /// Endpoints in one slice, and addresses of one endpoint.
  private static let endpointLimit = 1000
  private static let addressLimit = 100

  func changesGeneration(_ object: Value, from old: Value) -> Bool {
    object["endpoints"] != old["endpoints"] || object["ports"] != old["ports"]
      || object["metadata"]["labels"] != old["metadata"]["labels"]
  }

  func validate(_ slice: Value) -> [FieldError] {
    var validation = PodValidation()
    validation.supported(
      slice["addressType"], ["FQDN", "IPv4", "IPv6"], FieldPath("addressType"), isRequired: true)
    let endpoints = slice["endpoints"].elements
    if endpoints.count > EndpointSliceStrategy.endpointLimit {
      validation.errors.append(
        .tooMany(
          FieldPath("endpoints"), count: endpoints.count,
          limit: EndpointSliceStrategy.endpointLimit))
    }
    for (index, endpoint) in endpoints.enumerated() {
      let path = FieldPath("endpoints").index(index).child("addresses")
      let addresses = endpoint["addresses"].elements
      if addresses.isEmpty {
        validation.errors.append(.required(path, "must contain at least 1 address"))
      } else if addresses.count > EndpointSliceStrategy.addressLimit {
        validation.errors.append(
          .tooMany(path, count: addresses.count, limit: EndpointSliceStrategy.addressLimit))
      }
      for (index, address) in addresses.enumerated() {
        let text = address.string ?? ""
        let isGood =
          switch slice["addressType"].string {
          case "IPv4": IPAddress.isV4(text)
          case "IPv6": IPAddress.isV6(text)
          default: Names.subdomainProblems(text).isEmpty
          }
        if !isGood {
          validation.errors.append(
            .invalid(
              path.index(index), address,
              "must be a valid \(slice["addressType"].string ?? "") address"))
        }
      }
    }
    return validation.errors
  }

  func validateUpdate(_ slice: Value, from old: Value) -> [FieldError] {
    var errors = validate(slice)
    if slice["addressType"] != old["addressType"] {
      errors.append(
        .invalid(FieldPath("addressType"), slice["addressType"], "field is immutable"))
    }
    return errors
  }
}

struct PodDisruptionBudgetStrategy: ResourceStrategy {
  let hasGeneration = true
  let hasStatus = true

  func validate(_ budget: Value) -> [FieldError] {
    let spec = budget["spec"]
    var errors: [FieldError] = []
    if !spec["minAvailable"].isNull, !spec["maxUnavailable"].isNull {
      errors.append(
        .invalid(
          FieldPath("spec"), spec, "minAvailable and maxUnavailable cannot be both set"))
    }
    return errors
      + SelectorValidation.validate(spec["selector"], FieldPath("spec").child("selector"))
  }
}
