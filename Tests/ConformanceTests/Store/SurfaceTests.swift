import Foundation
import TestKit
import Testing

extension StoreConformance {
  /// The same requests, made to the real etcd and to us, get the same answers, field by field.
  ///
  /// Each section of `Clients/surface.py` runs against a fresh store. What may differ (ids, terms, times) is masked
  /// there. Where we are other than etcd 3.5.1 on purpose, a row of the table in `Docs/Compatibility.md` says
  /// so; a row that nothing differs by is wrong, too.
  @Suite(
    .serialized, .enabled(if: Peers.python != nil, Missing.python),
    .enabled(if: Peers.etcd != nil, Missing.etcd))
  struct Surface {
    /// Sections whose answers don't depend on which member is asked.
    static let anyMember = ["transactions", "leases", "locks", "elections", "auth-rights"]
    static let sections =
      [
        "ranges", "writes", "compactions", "comparisons", "transactions", "sizes", "random-1", "random-2",
        "random-3", "random-4", "leases", "lease-expiry", "auth-users", "auth-rights", "maintenance", "alarms",
        "locks", "elections", "gateway", "endpoints",
      ] + ["creation", "filters", "past", "future", "progress", "fragments", "half-closed"].map { "watch-\($0)" }

    @Test(arguments: sections) func theAnswersAreEtcds(section: String) throws {
      let etcd = try answers(of: .etcd, members: 1, section)
      let ours = try answers(of: .martlet, members: anyMemberCount(section), section)
      try check(section, SurfaceAnswers.differences(section, etcd, ours))
    }

    private func anyMemberCount(_ section: String) -> Int {
      Self.anyMember.contains(section) ? 3 : 1
    }

    private func answers(
      of implementation: StoreCluster.Implementation, members: Int, _ section: String
    ) throws -> [SurfaceAnswers.Answer] {
      let cluster = try StoreCluster(implementation, members: members)
      let peerURL = "http://127.0.0.1:\(try Loopback.freePort())"
      let output = try PythonClient.run(
        "surface.py", [section, cluster.endpoints, peerURL], seconds: 90)
      return try SurfaceAnswers.parse(output)
    }

    private func check(_ section: String, _ differences: [SurfaceAnswers.Difference]) throws {
      let documented = try DocumentedDifference.all().filter { $0.section == section }
      var unused = documented
      for difference in differences {
        if documented.contains(where: { $0.matches(difference) }) {
          unused.removeAll { $0.matches(difference) }
        } else {
          Issue.record("\(difference)")
        }
      }
      for row in unused { Issue.record("Docs/Compatibility.md: nothing differs by \(row)") }
    }
  }
}

/// What `surface.py` printed, and where two runs of it differ.
enum SurfaceAnswers {
  struct Answer {
    var name: String
    var fields: Any
  }

  struct Difference: CustomStringConvertible {
    var section: String
    var answer: String
    var field: String
    var etcd: String
    var martlet: String
    var description: String {
      "\(section) | \(answer) | \(field) | etcd: \(etcd) | martlet: \(martlet)"
    }
  }

  static func parse(_ output: String) throws -> [Answer] {
    try output.split(separator: "\n").map { line in
      guard
        let object = try? JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any],
        let name = object["name"] as? String, let fields = object["answer"]
      else { throw ProgramError("the script failed:\n\(output.suffix(3_000))") }
      return Answer(name: name, fields: fields)
    }
  }

  static func differences(
    _ section: String, _ etcd: [Answer], _ martlet: [Answer]
  ) -> [Difference] {
    var result: [Difference] = []
    for (index, expected) in etcd.enumerated() {
      guard index < martlet.count, martlet[index].name == expected.name else {
        result.append(
          Difference(
            section: section, answer: expected.name, field: "-", etcd: text(expected.fields),
            martlet: index < martlet.count ? "answered \(martlet[index].name)" : "no answer"))
        break
      }
      compare(expected.fields, martlet[index].fields, path: []) { path, etcd, martlet in
        result.append(
          Difference(
            section: section, answer: expected.name, field: path.joined(separator: "."), etcd: etcd,
            martlet: martlet))
      }
    }
    if martlet.count > etcd.count {
      result.append(
        Difference(
          section: section, answer: martlet[etcd.count].name, field: "-", etcd: "no answer",
          martlet: text(martlet[etcd.count].fields)))
    }
    return result
  }

  private static func compare(
    _ etcd: Any, _ martlet: Any, path: [String], _ report: ([String], String, String) -> Void
  ) {
    if let etcd = etcd as? [String: Any], let martlet = martlet as? [String: Any] {
      for key in Set(etcd.keys).union(martlet.keys).sorted() {
        switch (etcd[key], martlet[key]) {
        case (let etcd?, let martlet?): compare(etcd, martlet, path: path + [key], report)
        case (let etcd, let martlet):
          report(path + [key], etcd.map(text) ?? "none", martlet.map(text) ?? "none")
        }
      }
    } else if let etcd = etcd as? [Any], let martlet = martlet as? [Any],
      etcd.count == martlet.count
    {
      for (index, pair) in zip(etcd, martlet).enumerated() {
        compare(pair.0, pair.1, path: path + ["\(index)"], report)
      }
    } else if text(etcd) != text(martlet) {
      report(path, text(etcd), text(martlet))
    }
  }

  static func text(_ value: Any) -> String {
    let options: JSONSerialization.WritingOptions = [
      .fragmentsAllowed, .sortedKeys, .withoutEscapingSlashes,
    ]
    let data = try? JSONSerialization.data(withJSONObject: value, options: options)
    return data.map { String(decoding: $0, as: UTF8.self) } ?? "\(value)"
  }
}

/// A row of the table of deliberate differences. `*` in a cell stands for anything.
struct DocumentedDifference: CustomStringConvertible {
  var section: String
  var answer: String
  var field: String
  var etcd: String
  var martlet: String
  var description: String { "\(section) | \(answer) | \(field) | \(etcd) | \(martlet)" }

  /// The rows that have six cells, of which the first is a section in code quotes.
  static func all() throws -> [DocumentedDifference] {
    let text = try String(
      contentsOfFile: "\(Peers.repository)/Docs/Compatibility.md", encoding: .utf8)
    return text.split(separator: "\n").compactMap { line in
      guard line.hasPrefix("| `"), line.hasSuffix("|") else { return nil }
      let cells = line.dropFirst().dropLast().split(separator: "|", omittingEmptySubsequences: false)
        .map { cell in
          let cell = cell.drop { $0 == " " }
          let trimmed = String(cell.reversed().drop { $0 == " " }.reversed())
          return trimmed.hasPrefix("`") && trimmed.hasSuffix("`") && trimmed.count > 1
            ? String(trimmed.dropFirst().dropLast()) : trimmed
        }
      guard cells.count == 6, StoreConformance.Surface.sections.contains(cells[0]) else { return nil }
      return DocumentedDifference(
        section: cells[0], answer: cells[1], field: cells[2], etcd: cells[3], martlet: cells[4])
    }
  }

  func matches(_ difference: SurfaceAnswers.Difference) -> Bool {
    Self.matches(answer, difference.answer) && Self.matches(field, difference.field)
      && Self.matches(etcd, difference.etcd) && Self.matches(martlet, difference.martlet)
  }

  private static func matches(_ pattern: String, _ text: String) -> Bool {
    let parts = pattern.split(separator: "*", omittingEmptySubsequences: false)
    guard parts.count > 1 else { return pattern == text }
    var rest = Substring(text)
    for (index, part) in parts.enumerated() {
      if index == 0 {
        guard rest.hasPrefix(part) else { return false }
        rest = rest.dropFirst(part.count)
      } else if index == parts.count - 1 {
        return rest.hasSuffix(part)
      } else if let range = rest.firstRange(of: part) {
        rest = rest[range.upperBound...]
      } else {
        return false
      }
    }
    return true
  }
}
