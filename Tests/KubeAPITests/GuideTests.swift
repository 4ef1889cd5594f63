import Foundation
import KubeAPI
import TestKit
import Testing

/// `Docs/Orchestrator.md` has a table of the kinds, which is made of their declarations. `REWRITE=1` writes it anew.
@Suite("The guide to the orchestrator")
struct GuideTests {
  private static let path = Peers.repository + "/Docs/Orchestrator.md"
  private static let marks = ("<!-- kinds: made by GuideTests -->\n", "<!-- end of kinds -->\n")

  @Test("tells of the kinds what their declarations say")
  func kinds() throws {
    let text = try String(contentsOfFile: Self.path, encoding: .utf8)
    let start = try #require(text.range(of: Self.marks.0)).upperBound
    let end = try #require(text.range(of: Self.marks.1)).lowerBound
    let table = Self.table
    if ProcessInfo.processInfo.environment["REWRITE"] == "1" {
      let rewritten = text[..<start] + table + text[end...]
      try String(rewritten).write(toFile: Self.path, atomically: true, encoding: .utf8)
      return
    }
    #expect(String(text[start..<end]) == table, "run this test with REWRITE=1")
  }

  private static var table: String {
    var lines = [
      "| kind | in | kubectl says | verbs besides the usual | subresources | field selectors |",
      "|---|---|---|---|---|---|",
    ]
    for resource in Scheme.builtIn.resources {
      let names = ([resource.plural] + resource.shortNames).joined(separator: ", ")
      let missing = ResourceDefinition.allVerbs.filter { !resource.verbs.contains($0) }
      let verbs =
        missing.isEmpty
        ? "" : resource.isStored ? "no " + missing.joined(separator: ", ") : "create alone"
      let scope = resource.isNamespaced ? "" : " (no namespace)"
      lines.append(
        "| " + [
          resource.kind.kind + scope, resource.groupVersion.apiVersion, names, verbs,
          resource.subresources.map(\.name).joined(separator: ", "),
          resource.selectableFields.map { "`\($0.name)`" }.joined(separator: " "),
        ].joined(separator: " | ") + " |")
    }
    return lines.joined(separator: "\n") + "\n"
  }
}
