import EtcdClient
import HTTPServer
import KubeAPI
import Primitives

/// The write pipeline.
///
///     create   decode → default → admit → mutate → prepare → managedFields → validate → store
///     update   decode → default → prepare → managedFields → validate → compare-and-swap
///
/// Every write ends in one compare-and-swap of one key at the revision that the object was read at, so
/// no write is lost to another. A swap whose outcome is unknown (the store's leader changed in between)
/// is tried again: should the first attempt have taken place, the second one finds its own value.
extension ResourceService {
  /// How a write ended: the object as it is now, or as it was when it went.
  enum Written {
    case stored(StoredObject)
    case deleted(StoredObject)
    /// Nothing was to be changed.
    case unchanged(StoredObject)

    var object: StoredObject {
      switch self {
      case .stored(let object), .deleted(let object), .unchanged(let object): object
      }
    }
  }

  // MARK: Create

  func create(_ call: Call) async throws(StatusError) -> HTTPResponse {
    let options = try WriteOptions(call.request, kind: "CreateOptions")
    let answers = try Answers(call.request, now: environment.now)
    let body = try RequestBody(call.request, of: call.resource)
    let warnings = try body.judge(options.fieldValidation) {
      .strict(call.resource.kind, unknown: $0, duplicates: $1)
    }
    let object = try await insert(
      Self.signed(body.value, call), into: call.resource, namespace: call.namespace, options)
    return answers.object(object, of: call.resource, status: 201).warning(warnings)
  }

  /// A request for a certificate says who asks: signers judge by it, so it is never what the body says.
  static func signed(_ value: Value, _ call: Call) -> Value {
    guard call.resource.kind.kind == "CertificateSigningRequest" else { return value }
    var value = value
    value["spec"]["username"] = Value(call.user.name)
    value["spec"]["uid"] = call.user.uid.isEmpty ? nil : Value(call.user.uid)
    value["spec"]["groups"] = Value(call.user.groups)
    value["spec"]["extra"] = nil
    return value
  }

  /// Puts a new object through the pipeline.
  ///
  /// - Parameter isApplied: its `managedFields` are those of server-side apply, and stay.
  func insert(
    _ value: Value, into resource: ResourceDefinition, namespace: String, _ options: WriteOptions,
    isApplied: Bool = false
  ) async throws(StatusError) -> StoredObject {
    if resource.isNamespaced && namespace.isEmpty {
      throw .badRequest("an empty namespace may not be set during creation")
    }
    let now = environment.now()
    let isNameGenerated =
      value["metadata"]["name"].isEmpty && !value["metadata"]["generateName"].isEmpty
    var attempts = 0
    var taken: Set<String> = []
    while true {
      attempts += 1
      var object = value
      resource.applyDefaults(&object)
      try await admission.admitCreate(object, of: resource, namespace: namespace)
      try await admission.mutate(
        &object, of: resource, namespace: namespace, random: environment.random)
      try resource.prepareForCreate(
        &object,
        ResourceDefinition.Creation(
          namespace: namespace, uid: environment.uid(), now: now, random: environment.random()))
      let wishes = try assign(&object, from: .null, of: resource, taken: taken)
      if !isApplied {
        ManagedFields.update(
          &object, from: .null, schema: resource.schema, apiVersion: resource.kind.apiVersion,
          manager: options.fieldManager, subresource: "", now: now)
      }
      try resource.validate(object)
      let name = object["metadata"]["name"].string ?? ""
      let key = resource.storageKey(namespace: namespace, name: name)
      switch try await commit(
        object, of: resource, key: key, expected: .zero, options,
        companions: companions(of: object, from: .null, resource))
      {
      case .done(let stored): return stored
      case .taken(let keys):
        taken = try await judge(
          keys, wishes, object, resource, isLast: attempts >= Limits.writeAttempts)
      case .conflict:
        if isNameGenerated && attempts < Limits.writeAttempts { continue }
        throw .alreadyExists(resource.groupResource, name: name)
      }
    }
  }

  // MARK: Update

  func update(_ call: Call) async throws(StatusError) -> HTTPResponse {
    let options = try WriteOptions(call.request, kind: "UpdateOptions")
    let answers = try Answers(call.request, now: environment.now)
    let body = try RequestBody(call.request, of: call.resource)
    let warnings = try body.judge(options.fieldValidation) {
      .strict(call.resource.kind, unknown: $0, duplicates: $1)
    }
    let name = body.value["metadata"]["name"].string ?? ""
    if name != call.info.name {
      throw .badRequest(
        name.isEmpty
          ? "name must be provided"
          : "the name of the object (\(name)) does not match the name on the URL (\(call.info.name))"
      )
    }
    let namespace = body.value["metadata"]["namespace"].string ?? ""
    if call.resource.isNamespaced && !namespace.isEmpty && namespace != call.namespace {
      throw .badRequest(
        "the namespace of the provided object does not match the namespace sent on the request")
    }
    let revision = try Self.givenRevision(body.value)
    do throws(StatusError) {
      let written = try await attempt(call, options) { old async throws(StatusError) in
        if let revision, revision != old.revision {
          throw .conflict(call.resource.groupResource, name: call.info.name)
        }
        if revision == nil, !call.resource.strategy.allowsUnconditionalUpdate {
          throw .invalid(
            call.resource.kind, name: call.info.name,
            [
              .invalid(
                FieldPath("metadata.resourceVersion"), 0, "must be specified for an update")
            ])
        }
        return try await replace(
          old, with: body.value, in: call.resource, subresource: call.info.subresource, options)
      }
      return answer(written, answers, call.resource).warning(warnings)
    } catch  where error.reason == .notFound {
      guard call.resource.strategy.allowsCreateOnUpdate, call.info.subresource.isEmpty,
        revision == nil
      else { throw error }
      let object = try await insert(
        body.value, into: call.resource, namespace: call.namespace, options)
      return answers.object(object, of: call.resource, status: 201).warning(warnings)
    }
  }

  /// Changes an object by attempts, the first of them at what the cache has.
  ///
  /// A write that ends in a compare-and-swap may begin with what the cache has: if that lags behind, the swap
  /// fails, and nothing is lost. But what such an object *refuses* (a conflict, say) may no longer be true, nor
  /// that nothing is to be changed; and a dry run swaps nothing. Then the store's own object counts. So it does for
  /// Services, where an attempt that fails has chosen addresses in vain.
  ///
  /// - Parameter body: one attempt; nil where the object was changed by someone else meanwhile.
  /// - Throws: 404, what `body` throws for the newest object, and 409 after too many attempts.
  func attempt(
    _ call: Call, _ options: WriteOptions,
    _ body: (StoredObject) async throws(StatusError) -> Written?
  ) async throws(StatusError) -> Written {
    if !options.isDryRun, !ServiceAllocation.concerns(call.resource),
      let cached = cache.get(key: call.key, prefix: call.resource.storageKeyPrefix())
    {
      do throws(StatusError) {
        switch try await body(cached) {
        case .unchanged?, nil: break
        case let written?: return written
        }
      } catch  where error.code < 500 {
        // Judged again below.
      }
    }
    for _ in 0..<Limits.writeAttempts {
      guard let old = try await current(call) else { throw notFound(call) }
      if let written = try await body(old) { return written }
    }
    throw .conflict(call.resource.groupResource, name: call.info.name)
  }

  /// The resourceVersion that an object carries, nil for none.
  static func givenRevision(_ value: Value) throws(StatusError) -> Revision? {
    guard let text = value["metadata"]["resourceVersion"].string, !text.isEmpty, text != "0" else {
      return nil
    }
    guard let number = Int64(text), number > 0 else {
      throw .badRequest("Invalid value: \(quoted(text)): invalid resource version")
    }
    return Revision(number)
  }

  func answer(
    _ written: Written, _ answers: Answers, _ resource: ResourceDefinition
  ) -> HTTPResponse {
    answers.object(written.object, of: resource)
  }

  /// Puts a changed object through the pipeline.
  ///
  /// - Parameters:
  ///   - recorded: the subresource as managedFields tell it, where it differs.
  ///   - isApplied: the `managedFields` are those of server-side apply, and stay.
  /// - Returns: nil where the object was changed by someone else meanwhile.
  func replace(
    _ old: StoredObject, with value: Value, in resource: ResourceDefinition, subresource: String,
    recordedAs recorded: String? = nil, isApplied: Bool = false, _ options: WriteOptions
  ) async throws(StatusError) -> Written? {
    let before = resource.storage.served(old.value)
    let uid = value["metadata"]["uid"].string ?? ""
    if !uid.isEmpty && uid != old.uid {
      throw .conflict(
        resource.groupResource, name: old.name,
        why: "Precondition failed: UID in precondition: \(uid), UID in object meta: \(old.uid)")
    }
    var object = value
    resource.applyDefaults(&object)
    object["metadata"]["resourceVersion"] = .null
    if subresource == "finalize" {
      // Only the list of finalizers may change here.
      var finalized = before
      finalized["spec"]["finalizers"] = object["spec"]["finalizers"]
      finalized["metadata"]["resourceVersion"] = .null
      object = finalized
    } else {
      resource.prepareForUpdate(
        &object, from: before, subresource: subresource.isEmpty ? nil : subresource)
    }
    var unchanged = before
    unchanged["metadata"]["resourceVersion"] = .null
    unchanged["metadata"]["managedFields"] = .null
    let given = object["metadata"]["managedFields"]
    object["metadata"]["managedFields"] = .null
    if object == unchanged,
      given.isNull || ManagedFields.areEqual(given, before["metadata"]["managedFields"])
    {
      return .unchanged(old)
    }
    object["metadata"].set("managedFields", to: given)
    let prepared = object
    var taken: Set<String> = []
    for attempt in 1...Limits.writeAttempts {
      object = prepared
      let wishes =
        subresource.isEmpty
        ? try assign(&object, from: before, of: resource, taken: taken) : [:]
      if !isApplied {
        ManagedFields.update(
          &object, from: before, schema: resource.schema, apiVersion: resource.kind.apiVersion,
          manager: options.fieldManager, subresource: recorded ?? subresource,
          now: environment.now())
      }
      if subresource != "finalize" {
        try resource.validateUpdate(
          object, from: before, subresource: subresource.isEmpty ? nil : subresource)
      }
      if Self.isDeletionComplete(object) {
        return try await remove(old, from: resource, options).map { .deleted($0) }
      }
      switch try await commit(
        object, of: resource, key: old.key, expected: old.revision, options,
        companions: companions(of: object, from: before, resource))
      {
      case .done(let stored): return .stored(stored)
      case .conflict: return nil
      case .taken(let keys):
        taken = try await judge(
          keys, wishes, object, resource, isLast: attempt == Limits.writeAttempts)
      }
    }
    return nil
  }

  // MARK: What a write claims besides its key

  private func assign(
    _ object: inout Value, from old: Value, of resource: ResourceDefinition, taken: Set<String>
  ) throws(StatusError) -> ServiceAllocation.Wishes {
    guard ServiceAllocation.concerns(resource) else { return [:] }
    var random = environment.random()
    return try allocation.assign(&object, from: old, taken: taken, random: &random)
  }

  private func companions(
    of object: Value, from old: Value, _ resource: ResourceDefinition
  ) -> [StoreSwap.Companion] {
    ServiceAllocation.concerns(resource) ? ServiceAllocation.companions(of: object, from: old) : []
  }

  /// What to do about keys that were to be claimed and are taken.
  ///
  /// - Returns: all that are taken, to choose others.
  /// - Throws: 422 where the client itself had asked for one of them.
  private func judge(
    _ keys: [[UInt8]], _ wishes: ServiceAllocation.Wishes, _ object: Value,
    _ resource: ResourceDefinition, isLast: Bool
  ) async throws(StatusError) -> Set<String> {
    let errors = keys.compactMap { wishes[String(decoding: $0, as: UTF8.self)] }
    guard errors.isEmpty else {
      throw .invalid(resource.kind, name: object["metadata"]["name"].string ?? "", errors)
    }
    if isLast {
      throw .serviceUnavailable("no free address or port could be claimed")
    }
    return try await takenKeys()
  }

  /// An object that is being deleted goes when nothing holds it any more.
  static func isDeletionComplete(_ object: Value) -> Bool {
    !object["metadata"]["deletionTimestamp"].isNull
      && object["metadata"]["finalizers"].isEmpty
      && object["metadata"]["deletionGracePeriodSeconds"].integer ?? 0 == 0
      && object["spec"]["finalizers"].isEmpty
  }

  // MARK: The store

  enum Commit {
    case done(StoredObject)
    case conflict
    /// Keys that were to be claimed exist.
    case taken([[UInt8]])
  }

  /// Writes an object if its key is at the expected revision.
  func commit(
    _ object: Value, of resource: ResourceDefinition, key: String, expected: Revision,
    _ options: WriteOptions, companions: [StoreSwap.Companion] = []
  ) async throws(StatusError) -> Commit {
    let form = Self.storedForm(resource.storage.stored(object))
    let bytes = form.json
    guard bytes.count <= Limits.objectBytes else {
      throw .tooLarge("limit is \(Limits.objectBytes)")
    }
    func stored(_ revision: Revision) throws(StatusError) -> Commit {
      let object = try self.object(
        written: form, as: bytes, key: key, at: revision, of: resource)
      if !options.isDryRun { cache.anticipate(object) }
      return .done(object)
    }
    if options.isDryRun {
      if expected == .zero {
        let found = try await storing { () throws(StoreError) in try await store.get(key).record }
        if found != nil { return .conflict }
      }
      let taken = try await takenClaims(companions)
      if !taken.isEmpty { return .taken(taken) }
      return try stored(expected)
    }
    let expires = resource.storagePrefix == "events"
    var attempts = 0
    while true {
      attempts += 1
      let outcome: StoreSwapOutcome
      do throws(StoreError) {
        let lease = expires ? try await eventLeases.lease() : .none
        outcome = try await store.swap(
          StoreSwap(
            key: Array(key.utf8), expected: expected, change: .put(value: bytes, lease: lease),
            companions: companions))
      } catch {
        if error.code == .leaseNotFound { eventLeases.reset() }
        let mayRetry = error.code == .unknownOutcome || error.code == .leaseNotFound
        guard mayRetry, attempts < 3 else { throw Self.status(error) }
        continue
      }
      switch outcome {
      case .done(let revision): return try stored(revision)
      case .conflict(let current?) where attempts > 1 && current.value == bytes:
        // An earlier attempt took place after all.
        return try stored(current.modRevision)
      case .conflict: return .conflict
      case .taken(let keys): return .taken(keys)
      }
    }
  }

  /// Deletes an object's key if it is at the object's revision.
  ///
  /// - Returns: the object at the deletion's revision, or nil where it was changed meanwhile.
  func remove(
    _ object: StoredObject, from resource: ResourceDefinition, _ options: WriteOptions
  ) async throws(StatusError) -> StoredObject? {
    if options.isDryRun { return object }
    var attempts = 0
    while true {
      attempts += 1
      do throws(StoreError) {
        let swap = StoreSwap(
          key: Array(object.key.utf8), expected: object.revision, change: .delete,
          companions: ServiceAllocation.concerns(resource)
            ? ServiceAllocation.releases(of: object.value) : [])
        switch try await store.swap(swap) {
        case .done(let revision): return StoredObject(object, revision: revision)
        case .conflict(nil): return object
        case .conflict, .taken: return nil
        }
      } catch {
        guard error.code == .unknownOutcome, attempts < 3 else { throw Self.status(error) }
      }
    }
  }

  /// The form in which an object is stored: identity first, so that the place where the
  /// resourceVersion goes is found at once, and without one.
  static func storedForm(_ object: Value) -> Value {
    var metadata = object["metadata"].object ?? Value.Object()
    metadata.remove("resourceVersion")
    var form = Value.Object()
    form.set("kind", to: object["kind"])
    form.set("apiVersion", to: object["apiVersion"])
    form.set("metadata", to: .object(metadata))
    for member in object.members where form.find(member.key) == nil {
      form.set(member.key, to: member.value)
    }
    return .object(form)
  }
}

extension HTTPResponse {
  /// Adds warnings, as kubectl prints them. Source: RFC 7234, section 5.5, code 299.
  func warning(_ texts: [String]) -> HTTPResponse {
    var response = self
    for text in texts { response.fields.append("Warning", "299 - \(quoted(text))") }
    return response
  }
}
