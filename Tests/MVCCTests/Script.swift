import EtcdWire
import TestKit

/// The words of one line: `name key=value flag`.
struct Words {
  private var values: [String: String] = [:]

  init(_ command: GoldenCommand) { self.init(command.arguments) }

  init(_ arguments: [String]) {
    for argument in arguments {
      let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      values[String(parts[0])] = parts.count > 1 ? String(parts[1]) : ""
    }
  }

  func flag(_ name: String) -> Bool { values[name] != nil }
  func text(_ name: String) -> String { values[name] ?? "" }
  func number(_ name: String, or standard: Int64 = 0) -> Int64 {
    values[name].flatMap { Int64($0) } ?? standard
  }
  func list(_ name: String) -> [Int64] {
    text(name).split(separator: ",").compactMap { Int64($0) }
  }

  /// A value's bytes; `\0` stands for a zero byte.
  func bytes(_ name: String) -> [UInt8] {
    Array(text(name).replacing("\\0", with: "\0").utf8)
  }

  /// `end=x`, or `prefix` for the end of the keys that begin with `key`.
  func end() -> [UInt8] {
    guard flag("prefix") else { return bytes("end") }
    var end = bytes("key")
    end[end.count - 1] += 1
    return end
  }

  func filter() -> WatchFilter_ {
    var filter = WatchFilter_()
    if flag("noput") { filter.insert(.noPut) }
    if flag("nodelete") { filter.insert(.noDelete) }
    return filter
  }

  // The requests' bytes live as long as the arrays that hold them, so they are built encoded.

  func put() -> Encoded {
    Encoded { output in
      output.append(field: 1, copy: bytes("key"))
      output.append(field: 2, copy: bytes("value"))
      output.append(field: 3, int64: number("lease"))
      output.append(field: 4, bool: flag("prev"))
      output.append(field: 5, bool: flag("ignore-value"))
      output.append(field: 6, bool: flag("ignore-lease"))
    }
  }

  func deleteRange() -> Encoded {
    Encoded { output in
      output.append(field: 1, copy: bytes("key"))
      output.append(field: 2, copy: end())
      output.append(field: 3, bool: flag("prev"))
    }
  }

  func range() -> Encoded {
    let orders: [String: Int64] = ["asc": 1, "desc": 2]
    let targets: [String: Int64] = ["key": 0, "version": 1, "create": 2, "mod": 3, "value": 4]
    return Encoded { output in
      output.append(field: 1, copy: bytes("key"))
      output.append(field: 2, copy: end())
      output.append(field: 3, int64: number("limit"))
      output.append(field: 4, int64: number("rev"))
      output.append(field: 5, int64: orders[text("order")] ?? 0)
      output.append(field: 6, int64: targets[text("sort")] ?? 0)
      output.append(field: 8, bool: flag("keys-only"))
      output.append(field: 9, bool: flag("count-only"))
      output.append(field: 10, int64: number("min-mod"))
      output.append(field: 11, int64: number("max-mod"))
      output.append(field: 12, int64: number("min-create"))
      output.append(field: 13, int64: number("max-create"))
    }
  }

  /// `mod key=a = 3`: target, range, relation, operand.
  func compare(_ target: String, _ relation: String, _ operand: String) -> Encoded {
    let relations: [String: Int64] = ["=": 0, ">": 1, "<": 2, "!=": 3]
    let targets: [String: Int64] = ["version": 0, "create": 1, "mod": 2, "value": 3, "lease": 4]
    return Encoded { output in
      output.append(field: 1, int64: relations[relation] ?? 9)
      output.append(field: 2, int64: targets[target] ?? 9)
      output.append(field: 3, copy: bytes("key"))
      switch target {
      case "version": output.append(field: 4, int64: Int64(operand) ?? 0)
      case "create": output.append(field: 5, int64: Int64(operand) ?? 0)
      case "mod": output.append(field: 6, int64: Int64(operand) ?? 0)
      case "value": output.append(field: 7, copy: Array(operand.utf8))
      case "lease": output.append(field: 8, int64: Int64(operand) ?? 0)
      default: break
      }
      output.append(field: 64, copy: end())
    }
  }
}

typealias WatchFilter_ = WatchCreateRequest.Filters

/// A message that exists only as bytes.
struct Encoded {
  private let bytes: [UInt8]
  init(_ build: (inout [UInt8]) -> Void) {
    var output: [UInt8] = []
    build(&output)
    bytes = output
  }
  func encoded() -> [UInt8] { bytes }
}

extension [UInt8] {
  mutating func append(field: UInt32, copy bytes: [UInt8]) {
    bytes.withUnsafeBytes { append(field: field, bytes: $0) }
  }
  mutating func append(field: UInt32, message bytes: [UInt8]) {
    bytes.withUnsafeBytes { append(field: field, encoded: $0) }
  }
}

/// A transaction as an indented script:
///
/// ```
/// if mod key=a = 3
/// then put key=a value=x
/// else get key=a
/// then txn
///   then del key=b
/// ```
struct Script {
  private var lines: [(depth: Int, words: [String])] = []
  private var position = 0

  init(_ text: String) {
    for line in text.split(separator: "\n") {
      let depth = line.prefix { $0 == " " }.count
      lines.append((depth, line.split(separator: " ").map(String.init)))
    }
  }

  func txn() throws -> [UInt8] {
    var copy = self
    return try copy.takeTxn(depth: 0)
  }

  private mutating func takeTxn(depth: Int) throws -> [UInt8] {
    var output: [UInt8] = []
    while position < lines.count, lines[position].depth == depth {
      let words = lines[position].words
      position += 1
      switch words[0] {
      case "if":
        let relation = words.firstIndex { ["=", "!=", "<", ">", "?"].contains($0) } ?? 0
        let operand = relation + 1 < words.count ? words[relation + 1] : ""
        output.append(
          field: 1,
          message: Words(Array(words[2..<relation]))
            .compare(words[1], words[relation], operand).encoded())
      case "then", "else":
        let operation = try takeOperation(Array(words.dropFirst()), depth: depth)
        output.append(field: words[0] == "then" ? 2 : 3, message: operation)
      default: throw ScriptError(message: "unknown line \(words)")
      }
    }
    return output
  }

  private mutating func takeOperation(_ words: [String], depth: Int) throws -> [UInt8] {
    let arguments = Words(Array(words.dropFirst()))
    var operation: [UInt8] = []
    switch words.first {
    case "get": operation.append(field: 1, message: arguments.range().encoded())
    case "put": operation.append(field: 2, message: arguments.put().encoded())
    case "del": operation.append(field: 3, message: arguments.deleteRange().encoded())
    case "txn":
      let inner = position < lines.count ? lines[position].depth : 0
      let nested = inner > depth ? try takeTxn(depth: inner) : []
      operation.append(field: 4, message: nested)
    case "nothing": break
    default: throw ScriptError(message: "unknown operation \(words)")
    }
    return operation
  }
}
