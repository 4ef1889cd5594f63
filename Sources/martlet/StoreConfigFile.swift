import Foundation
import Yams

/// etcd's configuration file: YAML whose keys are flags, and two groups for TLS.
///
/// As with etcd, a file that is given is all there is: other flags and the environment don't count.
enum StoreConfigFile {
  private static let groups = [
    "client-transport-security": "", "peer-transport-security": "peer-",
  ]
  /// Keys whose flag is called otherwise.
  private static let aliases = [
    "allowed-cn": "cert-allowed-cn", "allowed-hostname": "cert-allowed-hostname",
    "crl-file": "crl-file",
  ]

  /// The flags that a file stands for, each as `--name=value`.
  ///
  /// - Throws: `StartFailure` for a file that can't be read, `UsageFailure` for one that makes no sense.
  static func flags(in path: String) throws -> [String] {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw StartFailure("cannot read the configuration file \(path)")
    }
    return try flags(of: String(decoding: data, as: UTF8.self), path: path)
  }

  static func flags(of text: String, path: String) throws -> [String] {
    let root: Node?
    do { root = try Yams.compose(yaml: text) } catch {
      let reason = "\(error)".split(separator: "\n").joined(separator: " ")
      throw UsageFailure("--config-file \(path) is not YAML: \(reason)")
    }
    guard let root else { return [] }
    guard let mapping = root.mapping else {
      throw UsageFailure("--config-file \(path) must be a mapping of flags to values")
    }
    var result: [String] = []
    for (key, value) in mapping {
      guard let name = key.string else { continue }
      if let prefix = groups[name] {
        guard let group = value.mapping else {
          throw UsageFailure("--config-file \(path): \(name) must be a mapping")
        }
        for (key, value) in group {
          let inner = key.string ?? ""
          try append(prefix + (aliases[inner] ?? inner), value, path, to: &result)
        }
      } else {
        try append(name, value, path, to: &result)
      }
    }
    return result
  }

  private static func append(
    _ name: String, _ value: Node, _ path: String, to result: inout [String]
  ) throws {
    if let sequence = value.sequence {
      result.append("--\(name)=\(sequence.compactMap(\.string).joined(separator: ","))")
    } else if let scalar = value.scalar {
      // Nothing behind the colon is the default, as in etcd.
      if !scalar.string.isEmpty, scalar.string != "null" {
        result.append("--\(name)=\(scalar.string)")
      }
    } else {
      throw UsageFailure("--config-file \(path): \(name) must be a value")
    }
  }
}
