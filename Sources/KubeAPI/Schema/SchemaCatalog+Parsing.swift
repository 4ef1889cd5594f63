import Primitives

// The table's format, one type after the other, a line each:
//
//   :core.v1.Container;G/v1/Kind;Agranular   a type; G: group/version/kind, A: map type
//   name=s!;N1                               a field; `!`: required
//   ports=[@core.v1.ContainerPort;Lmap;KcontainerPort,protocol;McontainerPort;Pmerge;N6
//
// Types: s string, b bool, i int32, l int64, d double, y bytes, t time, u time in microseconds,
// q quantity, x int or string, * any, @NAME object, [T array of T, {T map of T.
// Attributes of fields: L list type, K map keys, A map type, M merge key, P patch strategies, N number in
// protobuf (N2.13: number 13 in the message that is embedded as number 2).

extension SchemaCatalog {
  /// Reads tables, which may refer to each other's types. They are part of the program, so what is wrong in
  /// them is a broken invariant.
  convenience init(tables: [StaticString]) {
    let texts = tables.map { UnsafeBufferPointer(start: $0.utf8Start, count: $0.utf8CodeUnitCount) }
    self.init(types: SchemaTableParser(texts).parse())
  }
}

private struct SchemaTableParser {
  private typealias Bytes = Slice<UnsafeBufferPointer<UInt8>>

  private let lines: [Bytes]
  private var ids: [String: TypeID] = [:]

  init(_ texts: [UnsafeBufferPointer<UInt8>]) {
    lines = texts.flatMap { $0.split(separator: UInt8(ascii: "\n")) }
    for line in lines where line.first == UInt8(ascii: ":") {
      let name = SchemaTableParser.string(
        line.dropFirst().prefix { $0 != UInt8(ascii: ";") })
      ids[name] = TypeID(index: ids.count)
    }
  }

  func parse() -> [TypeSchema] {
    var types: [TypeSchema] = []
    types.reserveCapacity(ids.count)
    var head: Bytes?
    var fields: [FieldSchema] = []
    for line in lines {
      if line.first == UInt8(ascii: ":") {
        if let head { types.append(type(head, fields)) }
        head = line.dropFirst()
        fields = []
      } else {
        fields.append(field(line))
      }
    }
    if let head { types.append(type(head, fields)) }
    return types
  }

  private func type(_ head: Bytes, _ fields: [FieldSchema]) -> TypeSchema {
    let parts = head.split(separator: UInt8(ascii: ";"))
    var kind: GroupVersionKind?
    var isAtomic = false
    for part in parts.dropFirst() {
      let value = part.dropFirst()
      switch part.first {
      case UInt8(ascii: "G"):
        let names = value.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
          .map(SchemaTableParser.string)
        invariant(names.count == 3, "schema table: a kind has three parts")
        kind = GroupVersionKind(group: names[0], version: names[1], kind: names[2])
      case UInt8(ascii: "A"): isAtomic = SchemaTableParser.string(value) == "atomic"
      default: invariantFailure("schema table: unknown attribute of a type")
      }
    }
    return TypeSchema(
      name: SchemaTableParser.string(parts[0]), kind: kind, fields: fields, isAtomic: isAtomic)
  }

  private func field(_ line: Bytes) -> FieldSchema {
    let parts = line.split(separator: UInt8(ascii: ";"))
    guard let equals = parts[0].firstIndex(of: UInt8(ascii: "=")) else {
      invariantFailure("schema table: a field without a type")
    }
    var code = parts[0][(equals + 1)...]
    let isRequired = code.last == UInt8(ascii: "!")
    if isRequired { code = code.dropLast() }
    var listType = FieldSchema.ListType.atomic
    var mapKeys: [String] = []
    var isAtomic = false
    var mergeKey: String?
    var strategies: [String] = []
    var numbers: [UInt32] = []
    for part in parts.dropFirst() {
      let value = SchemaTableParser.string(part.dropFirst())
      switch part.first {
      case UInt8(ascii: "L"): listType = value == "map" ? .map : value == "set" ? .set : .atomic
      case UInt8(ascii: "K"): mapKeys = value.split(separator: ",").map(String.init)
      case UInt8(ascii: "A"): isAtomic = value == "atomic"
      case UInt8(ascii: "M"): mergeKey = value
      case UInt8(ascii: "P"): strategies = value.split(separator: ",").map(String.init)
      case UInt8(ascii: "N"): numbers = value.split(separator: ".").compactMap { UInt32($0) }
      default: invariantFailure("schema table: unknown attribute of a field")
      }
    }
    return FieldSchema(
      name: SchemaTableParser.string(parts[0][..<equals]), type: fieldType(code),
      isRequired: isRequired, listType: listType, mapKeys: mapKeys, isAtomic: isAtomic,
      mergeKey: mergeKey, mergesList: strategies.contains("merge"),
      retainsKeys: strategies.contains("retainKeys"), numbers: numbers)
  }

  private func fieldType(_ code: Bytes) -> FieldType {
    switch code.first {
    case UInt8(ascii: "s"): return .string
    case UInt8(ascii: "b"): return .bool
    case UInt8(ascii: "i"): return .int32
    case UInt8(ascii: "l"): return .int64
    case UInt8(ascii: "d"): return .double
    case UInt8(ascii: "y"): return .bytes
    case UInt8(ascii: "t"): return .time
    case UInt8(ascii: "u"): return .microTime
    case UInt8(ascii: "q"): return .quantity
    case UInt8(ascii: "x"): return .intOrString
    case UInt8(ascii: "*"): return .any
    case UInt8(ascii: "["): return .array(fieldType(code.dropFirst()))
    case UInt8(ascii: "{"): return .map(fieldType(code.dropFirst()))
    case UInt8(ascii: "@"):
      let name = SchemaTableParser.string(code.dropFirst())
      guard let id = ids[name] else { invariantFailure("schema table: no type \(name)") }
      return .object(id)
    default: invariantFailure("schema table: unknown type code")
    }
  }

  private static func string(_ bytes: Bytes) -> String {
    String(decoding: bytes, as: UTF8.self)
  }
}
