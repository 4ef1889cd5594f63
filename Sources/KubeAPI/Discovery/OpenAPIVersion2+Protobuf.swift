extension OpenAPIVersion2 {
  /// The media type of the protobuf form.
  public static let protobufType = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"

  /// A document in the protobuf form that old clients ask for: gnostic's `openapi.v2.Document`.
  ///
  /// Extensions (`x-…`) are YAML text there; ours is JSON, which is YAML. Members that the messages below don't name
  /// are left out: the documents made here have none.
  /// Source: the message definitions `openapi.v2` of the gnostic project (field names and numbers).
  public static func protobuf(_ document: Value) -> [UInt8] {
    var bytes: [UInt8] = []
    Message.document.encode(document, into: &bytes)
    return bytes
  }
}

/// How an object of the document becomes a message.
private indirect enum Form: Sendable {
  case string
  case strings
  case bool
  case message(Message)
  /// An object whose members become `repeated {1: name, 2: value}`.
  case named(Form)
  /// A message with one field, 1.
  case wrapped(Form)
  /// One of several messages: which one is told by the value.
  case choice(@Sendable (Value) -> (number: UInt32, form: Form)?)
  /// A schema, which holds schemas.
  case schema
  case list(Form)
}

private struct Message: Sendable {
  var fields: [String: (number: UInt32, form: Form)]
  /// The field of extensions; zero for none.
  var extensions: UInt32 = 0
  /// All members that are no extensions, where the message stands for a map.
  var members: (number: UInt32, form: Form)?

  func encode(_ value: Value, into bytes: inout [UInt8]) {
    for member in value.members {
      if member.key.hasPrefix("x-") {
        guard extensions > 0 else { continue }
        // NamedAny { 1: name, 2: Any { 2: yaml } }
        var any: [UInt8] = []
        Self.field(2, Array(member.value.jsonString.utf8), into: &any)
        var named: [UInt8] = []
        Self.field(1, Array(member.key.utf8), into: &named)
        Self.field(2, any, into: &named)
        Self.field(extensions, named, into: &bytes)
      } else if let members {
        Self.encodeNamed(member, members.number, members.form, into: &bytes)
      } else if let field = fields[member.key] {
        Self.encode(member.value, field.number, field.form, into: &bytes)
      }
    }
  }

  private static func encodeNamed(
    _ member: Value.Object.Member, _ number: UInt32, _ form: Form, into bytes: inout [UInt8]
  ) {
    var entry: [UInt8] = []
    field(1, Array(member.key.utf8), into: &entry)
    encode(member.value, 2, form, into: &entry)
    field(number, entry, into: &bytes)
  }

  private static func encode(
    _ value: Value, _ number: UInt32, _ form: Form, into bytes: inout [UInt8]
  ) {
    switch form {
    case .string:
      if let text = value.string { field(number, Array(text.utf8), into: &bytes) }
    case .strings:
      for text in value.strings { field(number, Array(text.utf8), into: &bytes) }
    case .bool:
      if value == true {
        varint(UInt64(number) << 3, into: &bytes)
        bytes.append(1)
      }
    case .message(let message):
      var nested: [UInt8] = []
      message.encode(value, into: &nested)
      field(number, nested, into: &bytes)
    case .schema: encode(value, number, .message(schema), into: &bytes)
    case .list(let element):
      for item in value.elements { encode(item, number, element, into: &bytes) }
    case .named(let form):
      for member in value.members { encodeNamed(member, number, form, into: &bytes) }
    case .wrapped(let form):
      var nested: [UInt8] = []
      encode(value, 1, form, into: &nested)
      field(number, nested, into: &bytes)
    case .choice(let choose):
      guard let (inner, form) = choose(value) else { return }
      var nested: [UInt8] = []
      encode(value, inner, form, into: &nested)
      field(number, nested, into: &bytes)
    }
  }

  private static func field(_ number: UInt32, _ content: [UInt8], into bytes: inout [UInt8]) {
    varint(UInt64(number) << 3 | 2, into: &bytes)
    varint(UInt64(content.count), into: &bytes)
    bytes += content
  }

  private static func varint(_ value: UInt64, into bytes: inout [UInt8]) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
  }
}

// MARK: The messages

extension Message {
  static let document = Message(
    fields: [
      "swagger": (1, .string),
      "info": (2, .message(Message(fields: ["title": (1, .string), "version": (2, .string)]))),
      "paths": (8, .message(paths)), "definitions": (9, .message(definitions)),
    ], extensions: 16)

  private static let paths = Message(fields: [:], extensions: 1, members: (2, .message(pathItem)))

  private static let definitions = Message(fields: [:], members: (1, .schema))

  private static let pathItem = Message(
    fields: [
      "get": (2, .message(operation)), "put": (3, .message(operation)),
      "post": (4, .message(operation)), "delete": (5, .message(operation)),
      "options": (6, .message(operation)), "head": (7, .message(operation)),
      "patch": (8, .message(operation)), "parameters": (9, .list(parameter)),
    ], extensions: 10)

  private static let operation = Message(
    fields: [
      "tags": (1, .strings), "summary": (2, .string), "description": (3, .string),
      "operationId": (5, .string), "produces": (6, .strings), "consumes": (7, .strings),
      "parameters": (8, .list(parameter)),
      "responses": (
        9, .message(Message(fields: [:], extensions: 2, members: (1, .wrapped(.message(response)))))
      ), "deprecated": (11, .bool),
    ], extensions: 13)

  private static let response = Message(
    fields: [
      "description": (1, .string),
      // SchemaItem { 1: schema }
      "schema": (2, .wrapped(.schema)),
    ], extensions: 5)

  /// `ParametersItem { 1: Parameter { 1: body, 2: NonBodyParameter { 3: query, 4: path } } }`
  private static var parameter: Form {
    .wrapped(
      .choice { value in
        switch value["in"].string {
        case "body": (1, .message(bodyParameter))
        case "query": (2, .choice { _ in (3, .message(queryParameter)) })
        case "path": (2, .choice { _ in (4, .message(pathParameter)) })
        default: nil
        }
      })
  }

  private static let bodyParameter = Message(
    fields: [
      "description": (1, .string), "name": (2, .string), "in": (3, .string),
      "required": (4, .bool), "schema": (5, .schema),
    ], extensions: 6)

  private static let queryParameter = Message(
    fields: [
      "required": (1, .bool), "in": (2, .string), "description": (3, .string),
      "name": (4, .string), "type": (6, .string), "format": (7, .string),
      "uniqueItems": (20, .bool),
    ], extensions: 23)

  private static let pathParameter = Message(
    fields: [
      "required": (1, .bool), "in": (2, .string), "description": (3, .string),
      "name": (4, .string), "type": (5, .string), "format": (6, .string),
      "uniqueItems": (19, .bool),
    ], extensions: 22)

  private static let schema = Message(
    fields: [
      "$ref": (1, .string), "format": (2, .string), "title": (3, .string),
      "description": (4, .string), "uniqueItems": (16, .bool), "required": (19, .strings),
      // AdditionalPropertiesItem { 1: schema }, TypeItem { 1: value }, ItemsItem { 1: schema }
      "additionalProperties": (21, .wrapped(.schema)), "type": (22, .wrapped(.string)),
      "items": (23, .wrapped(.schema)),
      // Properties { 1: NamedSchema }
      "properties": (25, .wrapped(.named(.schema))),
    ], extensions: 31)
}
