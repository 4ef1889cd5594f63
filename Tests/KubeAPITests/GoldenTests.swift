import KubeAPI
import Primitives
import TestKit
import Testing

/// Golden transcripts. Blocks hold JSON documents, parted by lines of `---`.
@Suite struct GoldenTests {
  /// Patches: an object, then a patch.
  @Test(arguments: GoldenRunner().files.filter { $0.hasPrefix("patch-") })
  func patches(_ file: String) throws {
    try GoldenRunner().run(file) { command in
      let documents = command.documents
      guard documents.count == 2 else { return "two documents, please" }
      let original = try Value(json: documents[0])
      let patch = try Value(json: documents[1])
      do {
        switch command.name {
        case "json": return try JSONPatch.apply(patch, to: original).jsonString
        case "merge": return try MergePatch.apply(patch, to: original).jsonString
        case "strategic":
          let name = command.arguments.first ?? "core.v1.Pod"
          let schema = try #require(SchemaCatalog.kubernetes.schema(named: name))
          return try StrategicMergePatch.apply(patch, to: original, schema: schema).jsonString
        default: return "unknown command"
        }
      } catch let error as PatchError {
        return "\(error.status.code) \(error.message)"
      }
    }
  }

  /// Writes: `create` takes an object, `update` and `status` an object and the changed one. What a
  /// server would store, or its error, comes out.
  @Test(arguments: GoldenRunner().files.filter { $0.hasPrefix("write-") })
  func writes(_ file: String) throws {
    try GoldenRunner().run(file) { command in
      do {
        switch command.name {
        case "create":
          return try Pipeline.create(try #require(command.documents.first)).indentedJSON()
        case "update", "status":
          guard command.documents.count == 2 else { return "two documents, please" }
          return try Pipeline.update(
            command.documents[0], command.documents[1],
            subresource: command.name == "status" ? "status" : nil
          ).indentedJSON()
        default: return "unknown command"
        }
      } catch let error as StatusError {
        var lines = ["\(error.code) \(error.reason): \(error.message)"]
        lines += error.details?.causes.map { "  \($0.reason) \($0.field): \($0.message)" } ?? []
        return lines.joined(separator: "\n")
      } catch let error as JSONError {
        return "\(error.message) at \(error.offset)"
      }
    }
  }

  /// `table TIME` prints the rows of the objects given; `wide` cells stand after a bar.
  @Test(arguments: GoldenRunner().files.filter { $0.hasPrefix("table-") })
  func tables(_ file: String) throws {
    try GoldenRunner().run(file) { command in
      let now = try Timestamp(try #require(command.arguments.first))
      var lines: [String] = []
      for document in command.documents {
        let object = try Value(json: document)
        let kind = try #require(GroupVersionKind(of: object))
        let resource = try #require(Scheme.builtIn.resource(for: kind))
        let columns = resource.printer.columns
        let cells = resource.printer.cells(object, now)
        try #require(cells.count == columns.count)
        if lines.isEmpty {
          lines.append(
            columns.map { $0.name + ($0.priority > 0 ? "*" : "") }.joined(separator: " | "))
        }
        lines.append(cells.map { $0.string ?? $0.jsonString }.joined(separator: " | "))
      }
      return lines.joined(separator: "\n")
    }
  }
}

/// The write pipeline as a server drives it, with fixed time and identifiers.
private enum Pipeline {
  static let now = Timestamp(secondsSinceEpoch: 1_700_000_000)

  static func decode(_ text: String) throws -> (ResourceDefinition, Value) {
    let parsed = try Value.parse(Array(text.utf8))
    let kind = try #require(GroupVersionKind(of: parsed.value))
    let resource = try #require(Scheme.builtIn.resource(for: kind))
    let decoded = try resource.decode(parsed.value)
    if !decoded.unknownFields.isEmpty || !parsed.duplicates.isEmpty {
      throw StatusError.strict(
        kind, unknown: decoded.unknownFields, duplicates: parsed.duplicates)
    }
    var object = decoded.value
    resource.applyDefaults(&object)
    return (resource, object)
  }

  static func create(_ text: String) throws -> Value {
    var (resource, object) = try decode(text)
    try resource.prepareForCreate(
      &object,
      ResourceDefinition.Creation(
        namespace: resource.isNamespaced ? "default" : "", uid: "uid-1", now: now,
        random: RandomSource(seed: 1)))
    try resource.validate(object)
    return object
  }

  static func update(_ before: String, _ after: String, subresource: String?) throws -> Value {
    let old = try create(before)
    var (resource, object) = try decode(after)
    resource.prepareForUpdate(&object, from: old, subresource: subresource)
    try resource.validateUpdate(object, from: old, subresource: subresource)
    return object
  }
}

extension GoldenCommand {
  /// The input's parts between lines of `---`.
  var documents: [String] {
    input.split(separator: "---\n", omittingEmptySubsequences: false).map(String.init)
  }
}
