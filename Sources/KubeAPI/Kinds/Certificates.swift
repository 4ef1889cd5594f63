/// Requests for certificates: made by anybody who may, judged through the subresource `approval`, answered by a
/// signer through the subresource `status`. Source: Kubernetes, "Certificates and Certificate Signing Requests".
struct CertificateSigningRequestStrategy: ResourceStrategy {
  let hasStatus = true

  private static let verdicts: Set<String> = ["Approved", "Denied"]
  private static let usages = [
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign",
    "data encipherment", "decipher only", "digital signature", "email protection", "encipher only",
    "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement", "key encipherment",
    "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth", "signing",
    "timestamping",
  ]
  /// The shortest life that may be asked for, in seconds.
  private static let shortestLife: Int64 = 600

  /// What was asked for stays as it was.
  func prepareForUpdate(_ request: inout Value, from old: Value) {
    request["spec"] = old["spec"]
    request["status"] = old["status"]
  }

  /// A signer answers, and judges nothing.
  func prepareForStatusUpdate(_ request: inout Value, from old: Value) {
    standardPrepareForStatusUpdate(&request, from: old)
    let others = request["status"]["conditions"].elements.filter { !Self.isVerdict($0) }
    let verdicts = old["status"]["conditions"].elements.filter(Self.isVerdict)
    request["status"]["conditions"] = verdicts.isEmpty && others.isEmpty ? nil : .array(verdicts + others)
  }

  /// `approval`: who judges changes nothing but the conditions.
  func prepareForUpdate(_ request: inout Value, from old: Value, subresource: String) {
    let conditions = request["status"]["conditions"]
    standardPrepareForStatusUpdate(&request, from: old)
    request["status"] = old["status"]
    request["status"]["conditions"] = conditions
  }

  private static func isVerdict(_ condition: Value) -> Bool {
    verdicts.contains(condition["type"].string ?? "")
  }

  func validate(_ request: Value) -> [FieldError] {
    let path = FieldPath("spec")
    let spec = request["spec"]
    var errors: [FieldError] = []
    let text = spec["request"].string.flatMap { Base64.decode($0) } ?? []
    if !String(decoding: text, as: UTF8.self).contains("-----BEGIN CERTIFICATE REQUEST-----") {
      errors.append(
        .invalid(
          path.child("request"), spec["request"], "PEM block type must be CERTIFICATE REQUEST"))
    }
    if spec["usages"].isEmpty {
      errors.append(.required(path.child("usages"), "usages must be provided"))
    }
    for (index, usage) in spec["usages"].elements.enumerated()
    where !Self.usages.contains(usage.string ?? "") {
      errors.append(.notSupported(path.child("usages").index(index), usage, Self.usages))
    }
    errors += Self.signerProblems(spec["signerName"], path.child("signerName"))
    if let seconds = spec["expirationSeconds"].integer, seconds < Self.shortestLife {
      errors.append(
        .invalid(
          path.child("expirationSeconds"), .integer(seconds),
          "may not specify a duration less than \(Self.shortestLife) seconds (10 minutes)"))
    }
    return errors + validateConditions(request)
  }

  private static func signerProblems(_ name: Value, _ path: FieldPath) -> [FieldError] {
    let text = name.string ?? ""
    if text.isEmpty { return [.required(path)] }
    let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    guard parts.count == 2, parts[0].contains("."), Names.subdomainProblems(parts[0]).isEmpty,
      Names.subdomainProblems(parts[1]).isEmpty
    else {
      return [
        .invalid(
          path, name,
          "must be a fully qualified domain and path of the form 'example.com/signer-name'")
      ]
    }
    return []
  }

  private func validateConditions(_ request: Value) -> [FieldError] {
    let path = FieldPath("status").child("conditions")
    let types = request["status"]["conditions"].elements.compactMap { $0["type"].string }
    var errors: [FieldError] = []
    for (index, type) in types.enumerated() where types[..<index].contains(type) {
      errors.append(.duplicate(path.index(index).child("type"), .string(type)))
    }
    if Self.verdicts.isSubset(of: types) {
      errors.append(
        .invalid(path, .string("Approved, Denied"), "Approved and Denied conditions are mutually exclusive"))
    }
    return errors
  }

  func validateStatusUpdate(_ request: Value, from old: Value) -> [FieldError] {
    var errors = validateConditions(request)
    let path = FieldPath("status").child("conditions")
    for condition in old["status"]["conditions"].elements where Self.isVerdict(condition) {
      let type = condition["type"]
      if !request["status"]["conditions"].elements.contains(where: { $0["type"] == type }) {
        errors.append(
          .forbidden(path, "updates may not remove a condition of type \"\(type.string ?? "")\""))
      }
    }
    return errors
  }
}

extension TablePrinter {
  static let certificateSigningRequest = TablePrinter(columns: [
    .name, .age,
    Column("SignerName", description: "Who is asked to sign."),
    Column("Requestor", description: "Who asks."),
    Column("RequestedDuration", description: "How long the certificate is to be good."),
    Column("Condition", description: "What has become of the request."),
  ]) { request, now in
    let spec = request["spec"]
    let types = request["status"]["conditions"].elements.compactMap { $0["type"].string }
    var words = ["Approved", "Denied"].filter(types.contains)
    if words.isEmpty, !types.contains("Failed") { words.append("Pending") }
    if types.contains("Failed") { words.append("Failed") }
    if !request["status"]["certificate"].isEmpty { words.append("Issued") }
    return [
      Cell.name(request), Cell.age(request, now), Cell.text(spec["signerName"]),
      Cell.text(spec["username"]), duration(spec["expirationSeconds"].integer),
      .string(words.joined(separator: ",")),
    ]
  }

  private static func duration(_ seconds: Int64?) -> Value {
    guard let seconds, seconds > 0 else { return "<none>" }
    if seconds % 86_400 == 0, seconds >= 2 * 86_400 { return .string("\(seconds / 86_400)d") }
    if seconds % 3_600 == 0 { return .string("\(seconds / 3_600)h") }
    return .string(seconds % 60 == 0 ? "\(seconds / 60)m" : "\(seconds)s")
  }
}
