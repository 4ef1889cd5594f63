/// Why a value can't be what its schema says, in the words of Go's JSON decoder, which clients of
/// Kubernetes know: `json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas
/// of type int32`.
public struct SchemaError: Error, Equatable, Sendable, CustomStringConvertible {
  public let message: String

  public init(message: String) { self.message = message }
  public var description: String { message }
}

extension Schema {
  /// A value that has the schema's form.
  public struct Decoded: Sendable {
    public var value: Value
    /// Paths of fields that the schema doesn't know; they were pruned. At most
    /// `Value.Limits.strictErrors` are listed.
    public var unknownFields: [String]
  }

  /// Brings what a client sent into the schema's form, as decoding into a struct and encoding again
  /// would:
  ///
  /// - Unknown fields are pruned and listed.
  /// - Members that are null, and optional lists and maps that are empty, are dropped.
  /// - Times become UTC, the quantities of resource maps canonical (rounded up to thousandths),
  ///   numbers in place of quantities text.
  ///
  /// - Throws: `SchemaError` at the first value of a wrong type.
  public func decode(_ value: Value) throws(SchemaError) -> Decoded {
    var decoder = SchemaDecoder(catalog: catalog)
    var value = value
    try decoder.decode(&value, as: .object(id), in: type)
    return Decoded(value: value, unknownFields: decoder.unknownFields)
  }
}

private struct SchemaDecoder {
  let catalog: SchemaCatalog
  var unknownFields: [String] = []
  private var path: [Step] = []

  private enum Step {
    case field(String)
    case key(String)
    case index(Int)
  }

  init(catalog: SchemaCatalog) {
    self.catalog = catalog
  }

  /// - Parameter owner: the type whose field this is, for messages.
  mutating func decode(
    _ value: inout Value, as type: FieldType, in owner: TypeSchema
  ) throws(SchemaError) {
    switch type {
    case .any: return
    case .string:
      guard case .string = value else { throw mismatch(value, "string", owner) }
    case .bool:
      guard case .bool = value else { throw mismatch(value, "bool", owner) }
    case .int32:
      guard case .integer(let number) = value, Int32(exactly: number) != nil else {
        throw mismatch(value, "int32", owner, showsNumber: true)
      }
    case .int64:
      guard case .integer = value else { throw mismatch(value, "int64", owner, showsNumber: true) }
    case .double:
      guard value.double != nil else { throw mismatch(value, "float64", owner) }
    case .bytes:
      guard case .string(let text) = value else { throw mismatch(value, "[]uint8", owner) }
      if let offset = Base64.firstInvalidByte(of: text) {
        throw SchemaError(message: "illegal base64 data at input byte \(offset)")
      }
    case .time, .microTime:
      guard case .string(let text) = value else {
        throw SchemaError(
          message: "json: cannot unmarshal \(kind(of: value)) into Go value of type string")
      }
      do {
        let time = try Timestamp(text)
        value = .string(type == .time ? time.description : time.microDescription)
      } catch {
        throw SchemaError(message: error.message)
      }
    case .quantity:
      value = .string(try quantityText(value))
    case .intOrString:
      switch value {
      case .string: return
      case .integer(let number) where Int32(exactly: number) != nil: return
      default:
        throw SchemaError(
          message: "json: cannot unmarshal \(kind(of: value, showsNumber: true)) into Go value of "
            + "type int32")
      }
    case .array(let element):
      guard case .array(var elements) = value else {
        throw mismatch(value, goName(of: type), owner)
      }
      value = .null
      for index in elements.indices {
        path.append(.index(index))
        if elements[index].isNull { elements[index] = zero(of: element) }
        try decode(&elements[index], as: element, in: owner)
        path.removeLast()
      }
      value = .array(elements)
    case .map(let element):
      try decodeMap(&value, of: element, in: owner)
    case .object(let id):
      try decodeObject(&value, as: catalog[id], in: owner)
    }
  }

  private mutating func decodeMap(
    _ value: inout Value, of element: FieldType, in owner: TypeSchema
  ) throws(SchemaError) {
    guard case .object(let object) = value else {
      throw mismatch(value, goName(of: .map(element)), owner)
    }
    var result = Value.Object()
    for member in object.members {
      path.append(.key(member.key))
      var item = member.value.isNull ? zero(of: element) : member.value
      try decode(&item, as: element, in: owner)
      if element == .quantity, let quantity = item.quantity {
        item = Value(quantity.roundedUpToMilli())
      }
      path.removeLast()
      result.appendNew(member.key, item)
    }
    value = .object(result)
  }

  private mutating func decodeObject(
    _ value: inout Value, as type: TypeSchema, in owner: TypeSchema
  ) throws(SchemaError) {
    guard case .object(let object) = value else {
      throw mismatch(value, "v1.\(type.goName)", owner)
    }
    var result = Value.Object()
    for member in object.members {
      guard let field = type.field(member.key) else {
        noteUnknown(member.key)
        continue
      }
      var item = member.value
      if item.isNull { continue }
      path.append(.field(member.key))
      try decode(&item, as: field.type, in: type)
      path.removeLast()
      switch field.type {
      case .array, .map: if item.isEmpty && !field.isRequired { continue }
      default: break
      }
      result.appendNew(member.key, item)
    }
    value = .object(result)
  }

  // MARK: Scalars

  private func quantityText(_ value: Value) throws(SchemaError) -> String {
    let text: String
    switch value {
    case .string(let own): text = own
    case .integer(let number): return Quantity(number).description
    case .double(let number): text = number.description
    default: throw SchemaError(message: QuantityError.malformed.message)
    }
    do {
      let quantity = try Quantity(text)
      if case .string = value { return text }
      return quantity.description
    } catch {
      throw SchemaError(message: error.message)
    }
  }

  /// What Go makes of null inside a list or map.
  private func zero(of type: FieldType) -> Value {
    switch type {
    case .string, .bytes: ""
    case .bool: false
    case .int32, .int64, .intOrString: 0
    case .double: 0.0
    case .quantity: "0"
    case .array: []
    case .map, .object: [:]
    case .any, .time, .microTime: nil
    }
  }

  // MARK: Messages

  private mutating func noteUnknown(_ key: String) {
    guard unknownFields.count < Value.Limits.strictErrors else { return }
    var text = ""
    for step in path + [.field(key)] {
      switch step {
      case .field(let name), .key(let name): text += text.isEmpty ? name : ".\(name)"
      case .index(let index): text += "[\(index)]"
      }
    }
    unknownFields.append(text)
  }

  private func kind(of value: Value, showsNumber: Bool = false) -> String {
    switch value {
    case .null: "null"
    case .bool: "bool"
    case .integer, .double: showsNumber ? "number \(value.jsonString)" : "number"
    case .string: "string"
    case .array: "array"
    case .object: "object"
    }
  }

  private func mismatch(
    _ value: Value, _ expected: String, _ owner: TypeSchema, showsNumber: Bool = false
  ) -> SchemaError {
    // Go's path names struct fields only, without indexes and map keys.
    let fields = path.compactMap { if case .field(let name) = $0 { name } else { nil } }
    let place =
      fields.isEmpty
      ? "value" : "struct field \(owner.goName).\(fields.joined(separator: "."))"
    return SchemaError(
      message: "json: cannot unmarshal \(kind(of: value, showsNumber: showsNumber)) into Go "
        + "\(place) of type \(expected)")
  }

  private func goName(of type: FieldType) -> String {
    switch type {
    case .string: "string"
    case .bool: "bool"
    case .int32: "int32"
    case .int64: "int64"
    case .double: "float64"
    case .bytes: "[]uint8"
    case .time: "v1.Time"
    case .microTime: "v1.MicroTime"
    case .quantity: "resource.Quantity"
    case .intOrString: "intstr.IntOrString"
    case .any: "interface {}"
    case .object(let id): "v1.\(catalog[id].goName)"
    case .array(let element): "[]\(goName(of: element))"
    case .map(let element): "map[string]\(goName(of: element))"
    }
  }
}
