// Endpoints of services, and disruption budgets.

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
