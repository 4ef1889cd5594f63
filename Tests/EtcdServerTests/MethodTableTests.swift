import Foundation
import Testing

@testable import EtcdServer

/// The calls that the protocol files declare, the server has, and `Docs/Compatibility.md` lists, are the same.
@Suite struct MethodTableTests {
  static let root = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath()
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  /// Every `rpc` of the `.proto` files, as the path of its calls.
  static func declared() throws -> Set<String> {
    let folder = root.appendingPathComponent("Sources/EtcdProto/Protos")
    var paths: Set<String> = []
    for file in try FileManager.default.contentsOfDirectory(
      at: folder, includingPropertiesForKeys: nil)
    where file.pathExtension == "proto" {
      var package = ""
      var service = ""
      for line in try String(contentsOf: file, encoding: .utf8).split(separator: "\n") {
        let words = line.split(whereSeparator: { " ;({".contains($0) })
        guard words.count > 1 else { continue }
        switch words[0] {
        case "package": package = String(words[1])
        case "service": service = String(words[1])
        case "rpc": paths.insert("/\(package).\(service)/\(words[1])")
        default: break
        }
      }
    }
    return paths
  }

  @Test("The server has every call that the protocol files declare, and no other")
  func calls() throws {
    let declared = try Self.declared()
    #expect(declared.count == 52)
    #expect(Set(EtcdMethod.allCases.map(\.path)) == declared)
  }

  @Test("The documents list every call")
  func documents() throws {
    let text = try String(
      contentsOf: Self.root.appendingPathComponent("Docs/Compatibility.md"), encoding: .utf8)
    let listed = text.split(separator: "\n").filter { $0.hasPrefix("| `/") }.map { line in
      String(line.dropFirst(3).prefix { $0 != "`" })
    }
    #expect(listed.count == Set(listed).count)
    #expect(Set(listed) == (try Self.declared()))
  }
}
