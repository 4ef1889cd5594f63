import KubeAPI
import TestKit
import Testing

/// Golden transcripts; each block's input holds YAML-free JSON documents parted by `---`.
@Suite struct GoldenTests {
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
}

extension GoldenCommand {
  /// The input's parts between lines of `---`.
  var documents: [String] {
    input.split(separator: "---\n", omittingEmptySubsequences: false).map(String.init)
  }
}
