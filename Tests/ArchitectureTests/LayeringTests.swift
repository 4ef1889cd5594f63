import Foundation
import Testing

/// Imports point down. SwiftPM doesn't stop a file from importing a transitive dependency, so this does.
@Suite struct LayeringTests {
  /// What each target may import besides the standard library: the layers of `Docs/Architecture.md`.
  static let allowed: [String: Set<String>] = [
    "Primitives": ["CChecksum"],
    "EtcdWire": ["Primitives"],
    "Raft": ["Primitives"],
    "MVCC": ["Primitives", "EtcdWire"],
    "Persistence": ["Primitives", "Raft", "CLZ4"],
    "Bolt": ["Primitives"],
    "EtcdImport": ["Primitives", "EtcdWire", "MVCC", "Bolt"],
    "HTTP2": ["Primitives", "NIOCore", "NIOPosix", "NIOSSL", "NIOTLS"],
    "HTTP1Client": ["NIOCore", "NIOPosix", "NIOHTTP1", "NIOSSL"],
    "EtcdProto": ["SwiftProtobuf", "Foundation", "FoundationEssentials"],
    "KubeAPI": ["Primitives"],
    "Replica": [
      "Primitives", "EtcdWire", "Raft", "MVCC", "Persistence",
    ],
    "EtcdClient": [
      "Primitives", "EtcdWire", "EtcdProto", "SwiftProtobuf", "HTTP2", "NIOCore", "NIOPosix",
      "NIOSSL", "Logging", "Synchronization",
    ],
    "HTTPServer": [
      "Primitives", "HTTP2", "NIOCore", "NIOPosix", "NIOHTTP1", "NIOWebSocket", "NIOSSL", "NIOTLS",
      "Logging",
    ],
    "KubeClient": [
      "Primitives", "KubeAPI", "HTTP1Client", "NIOCore", "NIOPosix", "NIOSSL", "Logging", "Yams",
    ],
    "KubeYAML": ["KubeAPI", "Yams"],
    "Netfilter": ["CLinux", "Dispatch"],
    "Certification": ["X509", "SwiftASN1", "Crypto"],
    "PeerTransport": [
      "Primitives", "Raft", "Replica", "NIOCore", "NIOPosix", "Logging", "Synchronization",
    ],
    "TransportSecurity": [
      "NIOCore", "NIOTLS", "NIOSSL", "X509", "SwiftASN1", "Crypto", "Logging", "Synchronization",
      "Foundation",
    ],
    "EtcdServer": [
      "Primitives", "EtcdWire", "EtcdProto", "MVCC", "Raft", "Replica", "HTTP2", "NIOCore",
      "NIOPosix", "NIOHTTP1", "Logging", "Synchronization", "SwiftProtobuf", "Foundation", "Crypto",
      "_CryptoExtras", "CCrypt",
    ],
    "APIServer": [
      "Primitives", "KubeAPI", "KubeYAML", "Certification", "HTTP1Client", "EtcdClient", "EtcdProto", "EtcdWire", "HTTPServer",
      "HTTP2", "X509", "SwiftASN1", "Crypto", "_CryptoExtras", "NIOCore", "NIOPosix", "NIOHTTP1", "NIOSSL",
      "NIOTLS", "Logging",
    ],
    "Scheduler": ["Primitives", "KubeAPI", "KubeClient", "Logging"],
    "Controllers": [
      "Primitives", "KubeAPI", "KubeClient", "Certification", "Logging",
    ],
    "ServiceProxy": ["KubeAPI", "KubeClient", "Netfilter", "Logging", "Dispatch"],
    "NodeAgent": [
      "Primitives", "KubeAPI", "KubeYAML", "KubeClient", "HTTP1Client", "HTTP2", "HTTPServer", "CLinux",
      "CZlib", "Netfilter", "Certification", "Dispatch", "Crypto", "NIOCore", "X509", "SwiftASN1",
      "NIOPosix", "NIOHTTP1", "NIOSSL", "Logging", "Glibc",
    ],
    "SimulatedStorage": ["Primitives", "Persistence"],
    "Verification": ["Primitives"],
    "Simulator": [
      "Primitives", "EtcdWire", "Raft", "MVCC", "Persistence", "Replica", "SimulatedStorage",
      "Verification",
    ],
  ]

  /// The system's own modules, free to use above L2.
  static let system: Set<String> = ["Glibc", "Darwin", "Foundation", "Synchronization"]

  /// L2 is pure: no I/O, no clock, no concurrency, nothing that differs between two processes.
  static let pure = ["Primitives", "EtcdWire", "Raft", "MVCC"]
  static let forbiddenInPure = [
    "Hasher(", " Date(", "Foundation.Date", "ContinuousClock", "SuspendingClock", "Task {", "async ", "await ",
    "SystemRandomNumberGenerator", ".random(in:", "Double(", ": Double", ": Float", "print(",
  ]

  static let root = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  static func sources(of target: String) -> [(name: String, text: String)] {
    let folder = root.appendingPathComponent("Sources/\(target)").resolvingSymlinksInPath()
    guard let walker = FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil)
    else { return [] }
    return walker.compactMap { $0 as? URL }
      .filter { $0.pathExtension == "swift" }
      .map {
        ("\(target)/\($0.lastPathComponent)", (try? String(contentsOf: $0, encoding: .utf8)) ?? "")
      }
  }

  static func imports(in text: String) -> [String] {
    text.split(separator: "\n").compactMap { line in
      let words = line.split(separator: " ")
      guard let position = words.firstIndex(of: "import"),
        words[..<position].allSatisfy({ $0.hasPrefix("@") || $0 == "public" || $0 == "internal" }),
        position + 1 < words.count
      else { return nil }
      // `import struct Module.Type` names the module before the dot.
      return words[words.count - 1].split(separator: ".").first.map(String.init)
    }
  }

  @Test(arguments: LayeringTests.allowed.keys.sorted())
  func targetImportsOnlyWhatLiesBelowIt(target: String) {
    let sources = LayeringTests.sources(of: target)
    #expect(!sources.isEmpty, "no sources found for \(target)")
    for (name, text) in sources {
      for module in LayeringTests.imports(in: text) {
        let permitted =
          LayeringTests.allowed[target]!.contains(module)
          || (!LayeringTests.pure.contains(target) && LayeringTests.system.contains(module))
        #expect(
          permitted,
          "\(name) imports \(module), which does not lie below \(target)")
      }
    }
  }

  @Test(arguments: LayeringTests.pure)
  func pureTargetsUseNothingThatDiffersBetweenMembers(target: String) {
    for (name, text) in LayeringTests.sources(of: target) {
      for line in text.split(separator: "\n")
      where !line.drop(while: { $0 == " " }).hasPrefix("//") {
        for word in LayeringTests.forbiddenInPure {
          #expect(!line.contains(word), "\(name) uses \(word): \(line)")
        }
      }
    }
  }

  @Test func noTypeSharesItsTargetsName() {
    for target in LayeringTests.allowed.keys {
      for (name, text) in LayeringTests.sources(of: target) {
        for line in text.split(separator: "\n") {
          for keyword in ["struct", "class", "enum", "actor", "protocol"] {
            let words = line.split(whereSeparator: { " :<{".contains($0) })
            guard let position = words.firstIndex(where: { $0 == keyword }),
              position + 1 < words.count, !line.contains("//")
            else { continue }
            #expect(
              words[position + 1] != Substring(target),
              "\(name) declares a type named like its target")
          }
        }
      }
    }
  }
}
