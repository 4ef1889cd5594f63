import KubeAPI
import Yams

/// YAML as kubectl's `--server-side` and people with curl send it to the API server, and as nodes find it in the
/// manifests of static pods.
public enum YAML {
  public enum Limits {
    /// Aliases make a small text large; a manifest has no use for many.
    public static let nodes = 200_000
  }

  /// Why a text can't be taken.
  public struct Failure: Error {
    public var message: String
  }

  /// Reads one document.
  public static func parse(_ bytes: [UInt8]) throws(Failure) -> Value {
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw Failure(message: "yaml: invalid UTF-8")
    }
    let node: Node?
    do {
      node = try Yams.compose(yaml: text)
    } catch {
      throw Failure(message: "yaml: \(error)")
    }
    guard let node else { return .null }
    var budget = Limits.nodes
    return try value(of: node, depth: 0, budget: &budget)
  }

  private static func value(
    of node: Node, depth: Int, budget: inout Int
  ) throws(Failure) -> Value {
    budget -= 1
    guard depth < Value.Limits.nestingDepth, budget > 0 else {
      throw Failure(message: "yaml: the document is nested too deeply or too large")
    }
    switch node {
    case .mapping(let mapping):
      var object = Value.Object()
      for (key, item) in mapping {
        guard let name = key.scalar?.string else {
          throw Failure(message: "yaml: a mapping's key is not a scalar")
        }
        object.set(name, to: try value(of: item, depth: depth + 1, budget: &budget))
      }
      return .object(object)
    case .sequence(let sequence):
      var array: [Value] = []
      for item in sequence {
        array.append(try value(of: item, depth: depth + 1, budget: &budget))
      }
      return .array(array)
    case .scalar(let scalar):
      if node.null != nil { return .null }
      // Quoted and block scalars are text whatever they look like.
      if scalar.style != .plain && scalar.style != .any { return .string(scalar.string) }
      if let flag = node.bool { return .bool(flag) }
      if let number = node.int { return .integer(Int64(number)) }
      if let number = node.float, number.isFinite { return .double(number) }
      return .string(scalar.string)
    case .alias:
      throw Failure(message: "yaml: an alias that refers to nothing")
    }
  }

  /// Writes a value as YAML, keys in their order.
  public static func text(of value: Value) -> String {
    (try? Yams.serialize(node: node(of: value))) ?? ""
  }

  private static func node(of value: Value) -> Node {
    switch value {
    case .null: return Node("null", Tag(.null))
    case .bool(let flag): return Node(flag ? "true" : "false", Tag(.bool))
    case .integer(let number): return Node(String(number), Tag(.int))
    case .double: return Node(value.jsonString, Tag(.float))
    case .string(let text):
      let plain = Node(text, .implicit, .plain)
      let isPlainText =
        !text.isEmpty && plain.null == nil && plain.bool == nil && plain.int == nil
        && plain.float == nil && plain.timestamp == nil
      let style: Node.Scalar.Style =
        text.contains("\n") ? .literal : isPlainText ? .any : .doubleQuoted
      return Node(text, Tag(.str), style)
    case .array(let items): return Node(items.map(node(of:)), Tag(.seq), .block)
    case .object(let object):
      return Node(
        object.members.map { (Node($0.key), node(of: $0.value)) }, Tag(.map), .block)
    }
  }
}
