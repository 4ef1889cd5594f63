import Primitives

// The steps of a write that need nothing but the object, in the order in which a server takes them:
//
//   create: decode → applyDefaults → (admission) → prepareForCreate → validate
//   update: decode → applyDefaults → (admission) → prepareForUpdate → validateUpdate

extension ResourceDefinition {
  /// Brings a client's object into the schema's form and checks that it is of this kind. A missing
  /// `apiVersion` or `kind` is filled in.
  ///
  /// - Throws: 400 for an object of another kind or with a value of a wrong type.
  public func decode(_ value: Value) throws(StatusError) -> Schema.Decoded {
    guard case .object = value else {
      throw .badRequest(
        "the object provided is unrecognized (must be of type \(kind.kind)): couldn't get "
          + "version/kind; json parse error: json: cannot unmarshal \(value.jsonTypeName) into Go "
          + "value of type struct")
    }
    var value = value
    let claimedVersion = value["apiVersion"].string ?? ""
    let claimedKind = value["kind"].string ?? ""
    if !claimedVersion.isEmpty, claimedVersion != kind.apiVersion {
      throw .badRequest(
        "the API version in the data (\(claimedVersion)) does not match the expected API version "
          + "(\(kind.apiVersion))")
    }
    if !claimedKind.isEmpty, claimedKind != kind.kind {
      throw .badRequest(
        "\(claimedKind) in version \(quoted(kind.version)) cannot be handled as a \(kind.kind): "
          + "the object is not a \(kind.kind)")
    }
    if claimedVersion.isEmpty || claimedKind.isEmpty {
      // Kubernetes puts them in front; keep that for whoever reads the bytes.
      var object = Value.Object([
        ("kind", Value(kind.kind)), ("apiVersion", Value(kind.apiVersion)),
      ])
      for member in value.members where member.key != "kind" && member.key != "apiVersion" {
        object.set(member.key, to: member.value)
      }
      value = .object(object)
    }
    do {
      return try schema.decode(value)
    } catch {
      throw .undecodable(kind, error.message)
    }
  }

  /// Fills in documented defaults. Applying them twice changes nothing.
  public func applyDefaults(_ object: inout Value) {
    if schema.catalog === SchemaCatalog.kubernetes {
      SchemaDefaults.kubernetes.apply(to: &object, schema: schema)
    }
    strategy.applyDefaults(&object)
  }

  /// What a server decides about a new object.
  public struct Creation: Sendable {
    /// The namespace of the request; empty for resources without.
    public var namespace: String
    public var uid: String
    public var now: Timestamp
    /// Makes the end of a generated name.
    public var random: RandomSource

    public init(namespace: String, uid: String, now: Timestamp, random: RandomSource) {
      self.namespace = namespace
      self.uid = uid
      self.now = now
      self.random = random
    }
  }

  /// Sets what belongs to the server in a new object: identity, creation time, generation, an empty
  /// status, a generated name.
  ///
  /// - Throws: 400 if the object names another namespace than the request, or a resourceVersion.
  public func prepareForCreate(
    _ object: inout Value, _ creation: Creation
  ) throws(StatusError) {
    try checkNamespace(&object, creation.namespace)
    if object["metadata"]["resourceVersion"].string.map({ !$0.isEmpty }) ?? false {
      throw .badRequest("resourceVersion should not be set on objects to be created")
    }
    for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"] {
      object["metadata"].remove(key)
    }
    let prefix = object["metadata"]["generateName"].string ?? ""
    if !prefix.isEmpty, object["metadata"]["name"].isEmpty {
      var random = creation.random
      object["metadata"]["name"] = Value(Names.generated(from: prefix, random: &random))
    }
    object["metadata"]["uid"] = Value(creation.uid)
    object["metadata"]["creationTimestamp"] = Value(creation.now)
    strategy.prepareForCreate(&object)
  }

  /// Carries over from `old` what an update can't change, and counts the generation.
  ///
  /// - Parameter subresource: `status` for a write of the status; nil for the object itself.
  public func prepareForUpdate(
    _ object: inout Value, from old: Value, subresource: String? = nil
  ) {
    let before = old["metadata"]
    object["metadata"]["generation"] = before["generation"]
    for key in ["uid", "creationTimestamp"] where object["metadata"][key].isEmpty {
      object["metadata"][key] = before[key]
    }
    for key in ["name", "namespace"] where object["metadata"][key].isEmpty {
      object["metadata"][key] = before[key]
    }
    // Deletion can't be undone; only a deletion sets these.
    object["metadata"]["deletionTimestamp"] = before["deletionTimestamp"]
    object["metadata"]["deletionGracePeriodSeconds"] = before["deletionGracePeriodSeconds"]
    switch subresource {
    case nil: strategy.prepareForUpdate(&object, from: old)
    case "status": strategy.prepareForStatusUpdate(&object, from: old)
    case let name?: strategy.prepareForUpdate(&object, from: old, subresource: name)
    }
  }

  private func checkNamespace(_ object: inout Value, _ namespace: String) throws(StatusError) {
    guard isNamespaced else {
      object["metadata"].remove("namespace")
      return
    }
    let own = object["metadata"]["namespace"].string ?? ""
    if !own.isEmpty, own != namespace {
      throw .badRequest(
        "the namespace of the provided object does not match the namespace sent on the request")
    }
    object["metadata"]["namespace"] = Value(namespace)
  }

  // MARK: Validation

  /// - Throws: 422 with every problem of a new object.
  public func validate(_ object: Value) throws(StatusError) {
    try report(
      MetadataValidation.validate(object, resource: self) + strategy.validate(object), object)
  }

  /// - Throws: 422 with every problem of a changed object.
  public func validateUpdate(
    _ object: Value, from old: Value, subresource: String? = nil
  ) throws(StatusError) {
    let metadata =
      MetadataValidation.validate(object, resource: self)
      + MetadataValidation.validateUpdate(object, from: old)
    try report(
      metadata
        + (subresource != nil
          ? strategy.validateStatusUpdate(object, from: old)
          : strategy.validateUpdate(object, from: old)),
      object)
  }

  private func report(_ errors: [FieldError], _ object: Value) throws(StatusError) {
    if errors.isEmpty { return }
    throw .invalid(kind, name: object["metadata"]["name"].string ?? "", errors)
  }
}

extension StatusError {
  /// 400 for an object that can't be read as its kind; `why` is a schema error or a strict one.
  public static func undecodable(_ kind: GroupVersionKind, _ why: String) -> StatusError {
    .badRequest(
      "\(kind.kind) in version \(quoted(kind.version)) cannot be handled as a \(kind.kind): \(why)")
  }

  /// 400 for unknown and duplicate fields, where the client asked for strict validation.
  public static func strict(
    _ kind: GroupVersionKind, unknown: [String], duplicates: [String]
  ) -> StatusError {
    .undecodable(kind, strictMessage(unknown: unknown, duplicates: duplicates))
  }

  /// 422 for a patch whose result has unknown fields, where the client asked for strict validation.
  public static func strictPatch(_ patch: Value, unknown: [String], duplicates: [String])
    -> StatusError
  {
    .invalid(
      GroupVersionKind(group: "", version: "", kind: ""), name: "",
      [
        .invalid(
          FieldPath("patch"), .string(patch.goText),
          strictMessage(unknown: unknown, duplicates: duplicates))
      ])
  }

  /// `strict decoding error: unknown field "spec.replikas"`.
  static func strictMessage(unknown: [String], duplicates: [String]) -> String {
    "strict decoding error: "
      + strictProblems(unknown: unknown, duplicates: duplicates)
      .joined(separator: ", ")
  }

  /// One text for each unknown or duplicate field: what a `Warning` header says of it.
  public static func strictProblems(unknown: [String], duplicates: [String]) -> [String] {
    unknown.map { "unknown field \(quoted($0))" }
      + duplicates.map { "duplicate field \(quoted($0))" }
  }

  /// 400 for a body that is not JSON.
  public static func unparsable(_ kind: GroupVersionKind, _ error: JSONError) -> StatusError {
    .badRequest(
      "the object provided is unrecognized (must be of type \(kind.kind)): couldn't get "
        + "version/kind; json parse error: \(error.message)")
  }
}

extension Names {
  /// What the ends of generated names are made of: no vowels, no look-alikes.
  private static let suffixAlphabet = Array("bcdfghjklmnpqrstvwxz2456789")
  private static let suffixLength = 5

  /// `prefix` with five random characters after it, cut to fit a DNS label.
  public static func generated(from prefix: String, random: inout RandomSource) -> String {
    var name = String(prefix.prefix(labelLength - suffixLength))
    for _ in 0..<suffixLength {
      name.append(suffixAlphabet[Int(random.below(UInt64(suffixAlphabet.count)))])
    }
    return name
  }
}
