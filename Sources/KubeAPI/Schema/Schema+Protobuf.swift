import Primitives

/// Why bytes are no protobuf object.
public struct ProtobufError: Error, Sendable, CustomStringConvertible {
  public let message: String
  public var description: String { message }
}

/// Reads Kubernetes' protobuf form of objects, driven by the schema's field numbers.
///
/// A body is `k8s\0` and a message `runtime.Unknown` that names the object's type and holds its bytes.
/// The result is what the same client would have sent as JSON. Two things differ between the forms and are
/// evened out here: Go writes fields that are no pointers even where they are empty, which JSON leaves out;
/// and some fields of one object are, in protobuf, in a message of their own (a Volume's source).
///
/// Bounds: nesting by `Value.Limits.nestingDepth`, sizes by the body itself.
/// Source: Kubernetes API concepts, "Kubernetes Protobuf encoding"; apimachinery's `generated.proto`.
public enum ProtobufObject {
  public static let mediaType = "application/vnd.kubernetes.protobuf"
  private static let magic: [UInt8] = [0x6B, 0x38, 0x73, 0]

  /// Decodes a body.
  ///
  /// - Returns: the object, with `apiVersion` and `kind`.
  public static func decode(
    _ bytes: [UInt8], catalog: SchemaCatalog = .kubernetes
  ) throws(ProtobufError) -> Value {
    guard bytes.starts(with: magic) else {
      throw ProtobufError(
        message: "provided data does not appear to be a protobuf message, "
          + "expected prefix [107 56 115 0]")
    }
    do {
      return try bytes.withUnsafeBytes { buffer throws -> Value in
        try envelope(UnsafeRawBufferPointer(rebasing: buffer[magic.count...]), catalog)
      }
    } catch let error as ProtobufError {
      throw error
    } catch {
      throw ProtobufError(message: "unable to decode: \(error)")
    }
  }

  private static func envelope(
    _ bytes: UnsafeRawBufferPointer, _ catalog: SchemaCatalog
  ) throws -> Value {
    var apiVersion = ""
    var kind = ""
    var raw = UnsafeRawBufferPointer(start: nil, count: 0)
    var reader = ByteReader(bytes)
    while !reader.isAtEnd {
      let tag = try reader.readVarint()
      guard tag & 7 == 2 else { throw ProtobufError(message: "proto: wrong wireType") }
      let field = try reader.readLengthPrefixed()
      switch tag >> 3 {
      case 1:
        var type = ByteReader(field)
        while !type.isAtEnd {
          let tag = try type.readVarint()
          guard tag & 7 == 2 else { throw ProtobufError(message: "proto: wrong wireType") }
          let text = try self.text(type.readLengthPrefixed())
          if tag >> 3 == 1 { apiVersion = text } else if tag >> 3 == 2 { kind = text }
        }
      case 2: raw = field
      default: break
      }
    }
    guard let version = GroupVersion(apiVersion: apiVersion), !kind.isEmpty else {
      throw ProtobufError(message: "the object lacks apiVersion or kind")
    }
    let schema =
      kind == "DeleteOptions"
      ? catalog.schema(named: "meta.v1.DeleteOptions")
      : catalog.schema(for: GroupVersionKind(version, kind))
    guard let schema else {
      throw ProtobufError(
        message: "no kind \(quoted(kind)) is registered for version \(quoted(apiVersion))")
    }
    var object = Value.Object([("kind", Value(kind)), ("apiVersion", Value(apiVersion))])
    var decoder = ProtobufDecoder(catalog: catalog)
    try decoder.decode(raw, into: &object, schema.type, isInline: nil)
    return .object(object)
  }

  fileprivate static func text(_ bytes: UnsafeRawBufferPointer) throws(ProtobufError) -> String {
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw ProtobufError(message: "proto: a string is not valid UTF-8")
    }
    return text
  }
}

private struct ProtobufDecoder {
  let catalog: SchemaCatalog
  private var depth = 0

  init(catalog: SchemaCatalog) { self.catalog = catalog }

  /// Numbers and booleans that are pointers in Go: where they are there, they are meant, zero too.
  private static let pointers: Set<String> = [
    "activeDeadlineSeconds", "allocateLoadBalancerNodePorts", "allowPrivilegeEscalation",
    "automountServiceAccountToken", "backoffLimit", "backoffLimitPerIndex", "blockOwnerDeletion",
    "completions", "controller", "defaultMode", "deletionGracePeriodSeconds", "enableServiceLinks",
    "expirationSeconds", "failedJobsHistoryLimit", "fsGroup", "gracePeriodSeconds", "hostProcess",
    "hostUsers", "immutable", "leaseDurationSeconds", "leaseTransitions", "manualSelector",
    "maxFailedIndexes", "maxSurge", "maxUnavailable", "minAvailable", "minReplicas", "mode",
    "optional", "orphanDependents", "parallelism", "partition", "priority", "privileged",
    "procMount", "progressDeadlineSeconds", "readOnlyRootFilesystem", "ready", "replicas",
    "revisionHistoryLimit", "runAsGroup", "runAsNonRoot", "runAsUser", "serving",
    "setHostnameAsFQDN", "shareProcessNamespace", "startingDeadlineSeconds",
    "stabilizationWindowSeconds",
    "succeededCount", "successfulJobsHistoryLimit", "suspend", "terminating",
    "terminationGracePeriodSeconds", "timeoutSeconds", "tolerationSeconds",
    "ttlSecondsAfterFinished",
  ]

  /// Reads a message's fields into `object`.
  ///
  /// - Parameter isInline: the number of the embedding field, where this is a part of `type`'s object.
  mutating func decode(
    _ bytes: UnsafeRawBufferPointer, into object: inout Value.Object, _ type: TypeSchema,
    isInline outer: UInt32?
  ) throws {
    depth += 1
    defer { depth -= 1 }
    guard depth <= Value.Limits.nestingDepth else {
      throw ProtobufError(message: "the object nests too deeply")
    }
    var reader = ByteReader(bytes)
    while !reader.isAtEnd {
      let tag = try reader.readVarint()
      let number = UInt32(truncatingIfNeeded: tag >> 3)
      guard let field = type.field(number: number, in: outer) else {
        if outer == nil, type.embeds(number), tag & 7 == 2 {
          try decode(reader.readLengthPrefixed(), into: &object, type, isInline: number)
        } else {
          try skip(tag, &reader)
        }
        continue
      }
      try read(field, tag, &reader, into: &object)
    }
  }

  private func skip(_ tag: UInt64, _ reader: inout ByteReader) throws {
    switch tag & 7 {
    case 0: _ = try reader.readVarint()
    case 1: try reader.skip(8)
    case 2: _ = try reader.readLengthPrefixed()
    case 5: try reader.skip(4)
    default: throw ProtobufError(message: "proto: illegal wireType \(tag & 7)")
    }
  }

  private mutating func read(
    _ field: FieldSchema, _ tag: UInt64, _ reader: inout ByteReader, into object: inout Value.Object
  ) throws {
    switch field.type {
    case .array(let element):
      let value = try one(element, tag, &reader)
      var list = object[field.name]
      list.append(value)
      object[field.name] = list
    case .map(let element):
      guard tag & 7 == 2 else { throw ProtobufError(message: "proto: wrong wireType for a map") }
      var entry = ByteReader(try reader.readLengthPrefixed())
      var key = ""
      var value = empty(element)
      while !entry.isAtEnd {
        let tag = try entry.readVarint()
        switch tag >> 3 {
        case 1: key = try ProtobufObject.text(entry.readLengthPrefixed())
        case 2: value = try one(element, tag, &entry)
        default: try skip(tag, &entry)
        }
      }
      var map = object[field.name]
      if map.isNull { map = [:] }
      map.set(key, to: value)
      object[field.name] = map
    default:
      let value = try one(field.type, tag, &reader)
      if isMeant(value, field) { object[field.name] = value }
    }
  }

  /// Whether a value is more than the zero of a field that Go always writes.
  private func isMeant(_ value: Value, _ field: FieldSchema) -> Bool {
    switch value {
    case .null: return false
    case .string(let text): return !text.isEmpty || field.isRequired
    case .integer(0), .bool(false), .double(0):
      return field.isRequired || Self.pointers.contains(field.name)
    default: return true
    }
  }

  private func empty(_ type: FieldType) -> Value {
    switch type {
    case .string, .bytes, .quantity: ""
    case .bool: false
    case .int32, .int64, .intOrString: 0
    case .array: .array([])
    case .object, .map: [:]
    default: .null
    }
  }

  private mutating func one(
    _ type: FieldType, _ tag: UInt64, _ reader: inout ByteReader
  ) throws -> Value {
    let wire = tag & 7
    switch type {
    case .bool, .int32, .int64:
      guard wire == 0 else { throw ProtobufError(message: "proto: wrong wireType \(wire)") }
      let number = try reader.readVarint()
      return type == .bool ? .bool(number != 0) : .integer(Int64(bitPattern: number))
    case .double:
      guard wire == 1 else { throw ProtobufError(message: "proto: wrong wireType \(wire)") }
      return .double(Double(bitPattern: try reader.read(UInt64.self)))
    default:
      guard wire == 2 else { throw ProtobufError(message: "proto: wrong wireType \(wire)") }
    }
    let bytes = try reader.readLengthPrefixed()
    switch type {
    case .string: return .string(try ProtobufObject.text(bytes))
    case .bytes: return .string(Base64.encode(bytes))
    case .time, .microTime: return try time(bytes, isMicro: type == .microTime)
    case .quantity: return .string(try ProtobufObject.text(fields(bytes)[1].bytes))
    case .intOrString:
      let parts = try fields(bytes)
      return parts[1].number == 1
        ? .string(try ProtobufObject.text(parts[3].bytes))
        : .integer(Int64(bitPattern: parts[2].number))
    case .any:
      // Raw JSON in a message of its own.
      let raw = try fields(bytes)[1].bytes
      guard raw.count > 0 else { return .null }
      return try Value(json: Array(raw))
    case .object(let id):
      var object = Value.Object()
      try decode(bytes, into: &object, catalog[id], isInline: nil)
      return .object(object)
    case .array(let element):
      // A list as an element of a map or list is a message with the items.
      var items: [Value] = []
      var inner = ByteReader(bytes)
      while !inner.isAtEnd { items.append(try one(element, inner.readVarint(), &inner)) }
      return .array(items)
    default: throw ProtobufError(message: "a field can't be read as protobuf")
    }
  }

  /// The first three fields of a small message, numbers and bytes.
  private func fields(
    _ bytes: UnsafeRawBufferPointer
  ) throws -> [(number: UInt64, bytes: UnsafeRawBufferPointer)] {
    var found = Array(
      repeating: (number: UInt64(0), bytes: UnsafeRawBufferPointer(start: nil, count: 0)), count: 4)
    var reader = ByteReader(bytes)
    while !reader.isAtEnd {
      let tag = try reader.readVarint()
      let number = Int(truncatingIfNeeded: min(tag >> 3, 100))
      switch tag & 7 {
      case 0:
        let value = try reader.readVarint()
        if found.indices.contains(number) { found[number].number = value }
      case 2:
        let value = try reader.readLengthPrefixed()
        if found.indices.contains(number) { found[number].bytes = value }
      default: try skip(tag, &reader)
      }
    }
    return found
  }

  /// Seconds and nanoseconds; nothing at all is no time.
  private func time(_ bytes: UnsafeRawBufferPointer, isMicro: Bool) throws -> Value {
    if bytes.isEmpty { return .null }
    let parts = try fields(bytes)
    let time = Timestamp(
      secondsSinceEpoch: Int64(bitPattern: parts[1].number),
      nanoseconds: Int64(Int32(truncatingIfNeeded: parts[2].number)))
    // The year 1 is Go's zero time.
    if time.secondsSinceEpoch <= -62_135_596_800 { return .null }
    return isMicro ? Value(time.microDescription) : Value(time)
  }
}
