/// How objects of one kind behave in the write pipeline, apart from what is the same for all
/// (metadata, schema, storage).
///
/// The pipeline calls, for a create: schema decoding, `applyDefaults`, `prepareForCreate`,
/// `validate`; for an update: decoding, `applyDefaults`, `prepareForUpdate`, `validateUpdate`. A
/// write of the status subresource calls `prepareForStatusUpdate` and `validateStatusUpdate`
/// instead. Hooks are pure: time, identifiers and other objects come from elsewhere.
public protocol ResourceStrategy: Sendable {
  /// The object counts changes of its specification in `metadata.generation`.
  var hasGeneration: Bool { get }
  /// The kind has a status that only the status subresource may write.
  var hasStatus: Bool { get }
  /// PUT makes an object that doesn't exist yet.
  var allowsCreateOnUpdate: Bool { get }
  /// An update without a resourceVersion overwrites whatever is there.
  var allowsUnconditionalUpdate: Bool { get }

  /// Fills in documented defaults that depend on other fields; constant ones are in
  /// `SchemaDefaults`.
  func applyDefaults(_ object: inout Value)
  func prepareForCreate(_ object: inout Value)
  func prepareForUpdate(_ object: inout Value, from old: Value)
  func prepareForStatusUpdate(_ object: inout Value, from old: Value)
  /// A write through a subresource of the kind's own, neither `status` nor `scale`.
  func prepareForUpdate(_ object: inout Value, from old: Value, subresource: String)
  /// Whether an update counts as a new generation.
  func changesGeneration(_ object: Value, from old: Value) -> Bool
  /// What is wrong with a new object, metadata apart.
  func validate(_ object: Value) -> [FieldError]
  /// What is wrong with a changed object, metadata apart.
  func validateUpdate(_ object: Value, from old: Value) -> [FieldError]
  func validateStatusUpdate(_ object: Value, from old: Value) -> [FieldError]
  /// The rule for `metadata.name`; answers what is wrong with a name, or nothing.
  func nameProblems(_ name: String, isPrefix: Bool) -> [String]
}

extension ResourceStrategy {
  public var hasGeneration: Bool { false }
  public var hasStatus: Bool { false }
  public var allowsCreateOnUpdate: Bool { false }
  public var allowsUnconditionalUpdate: Bool { true }

  public func applyDefaults(_ object: inout Value) {}
  public func prepareForCreate(_ object: inout Value) { standardPrepareForCreate(&object) }
  public func prepareForUpdate(_ object: inout Value, from old: Value) {
    standardPrepareForUpdate(&object, from: old)
  }
  public func prepareForStatusUpdate(_ object: inout Value, from old: Value) {
    standardPrepareForStatusUpdate(&object, from: old)
  }
  public func prepareForUpdate(_ object: inout Value, from old: Value, subresource: String) {
    standardPrepareForStatusUpdate(&object, from: old)
  }
  public func changesGeneration(_ object: Value, from old: Value) -> Bool {
    object["spec"] != old["spec"]
  }
  public func validate(_ object: Value) -> [FieldError] { [] }
  public func validateUpdate(_ object: Value, from old: Value) -> [FieldError] { validate(object) }
  public func validateStatusUpdate(_ object: Value, from old: Value) -> [FieldError] { [] }
  public func nameProblems(_ name: String, isPrefix: Bool) -> [String] {
    Names.subdomainProblems(name, isPrefix: isPrefix)
  }

  /// Clients don't set status when they create, nor generation.
  func standardPrepareForCreate(_ object: inout Value) {
    if hasStatus { object.set("status", to: [:]) }
    if hasGeneration { object["metadata"]["generation"] = 1 }
  }

  /// The main resource can't change status; a changed specification is a new generation.
  func standardPrepareForUpdate(_ object: inout Value, from old: Value) {
    if hasStatus { object["status"] = old["status"] }
    if hasGeneration {
      let generation = old["metadata"]["generation"].integer ?? 0
      object["metadata"]["generation"] = .integer(
        changesGeneration(object, from: old) ? generation &+ 1 : generation)
    }
  }

  /// The status subresource changes nothing but status, and metadata apart from labels.
  func standardPrepareForStatusUpdate(_ object: inout Value, from old: Value) {
    for member in old.members where member.key != "status" && member.key != "metadata" {
      object[member.key] = member.value
    }
    for member in object.members
    where member.key != "status" && member.key != "metadata" && !old.has(member.key) {
      object.remove(member.key)
    }
    for key in ["labels", "ownerReferences", "generation"] {
      object["metadata"][key] = old["metadata"][key]
    }
  }
}

/// For kinds with nothing special about them.
public struct StandardStrategy: ResourceStrategy {
  public let hasGeneration: Bool
  public let hasStatus: Bool

  public init(hasGeneration: Bool = false, hasStatus: Bool = false) {
    self.hasGeneration = hasGeneration
    self.hasStatus = hasStatus
  }
}
