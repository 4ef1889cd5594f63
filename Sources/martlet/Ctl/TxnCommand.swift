import ArgumentParser
import EtcdClient
import EtcdProto
import Foundation
import SwiftProtobuf

/// `martlet ctl txn`
struct TxnCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "txn", abstract: "Process all the requests in one transaction.",
    discussion: """
      Standard input has three parts, each ended by an empty line: comparisons, requests if all hold, requests if
      one doesn't.

        martlet ctl txn <<END
        mod("key1") > "0"

        put key1 "overwritten"

        put key1 "created"
        put key2 "some other key"

        END
      """)

  @OptionGroup var options: CtlOptions
  @Argument(help: .hidden) var arguments: [String] = []
  @Flag(name: [.short, .long], help: "Say what comes next.") var interactive = false

  /// A transaction may wait for nothing; etcdctl sets no bound at all.
  private static let timeout = Duration.seconds(60)

  func run() async throws {
    guard arguments.isEmpty else {
      throw CtlFailure.arguments("txn command does not accept argument")
    }
    let printer = try options.printer()
    let client = try await options.client()
    var request = Etcdserverpb_TxnRequest()
    prompt("compares:")
    request.compare = try readPart(Self.comparison)
    prompt("success requests (get, put, del):")
    request.success = try readPart(Self.operation)
    prompt("failure requests (get, put, del):")
    request.failure = try readPart(Self.operation)
    let message = request
    try printer.print(
      try await calling {
        try await client.call("KV/Txn", message, timeout: Self.timeout)
          as Etcdserverpb_TxnResponse
      })
  }

  private func prompt(_ text: String) { if interactive { CtlOutput.line(text) } }

  private func readPart<Item>(_ parse: (String) throws -> Item) throws -> [Item] {
    var items: [Item] = []
    while true {
      guard let line = readLine() else { throw CtlFailure(.invalidInput, "EOF") }
      let text = line.trimmingCharacters(in: .whitespaces)
      if text.isEmpty { return items }
      items.append(try parse(text))
    }
  }

  // MARK: Requests

  static func operation(_ line: String) throws -> Etcdserverpb_RequestOp {
    let words = try GoText.words(line)
    guard words.count >= 2 else {
      throw CtlFailure(.invalidInput, "invalid txn compare request: \(line)")
    }
    let arguments = Array(CtlArguments.normalise(["ctl"] + words).dropFirst(2))
    var operation = Etcdserverpb_RequestOp()
    func parsed<Arguments: ParsableArguments>(_ type: Arguments.Type) throws -> Arguments {
      do { return try type.parse(arguments) } catch {
        throw CtlFailure(.invalidInput, "invalid txn request: \(line)")
      }
    }
    switch words[0] {
    case "get": operation.requestRange = try parsed(GetArguments.self).message()
    case "put": operation.requestPut = try parsed(PutArguments.self).message()
    case "del": operation.requestDeleteRange = try parsed(DelArguments.self).message()
    default: throw CtlFailure(.invalidInput, "invalid txn request: \(line)")
    }
    return operation
  }

  // MARK: Comparisons

  /// Reads `mod("key") > "0"`.
  static func comparison(_ line: String) throws -> Etcdserverpb_Compare {
    func malformed(_ rest: String) -> CtlFailure {
      CtlFailure(.invalidInput, "malformed comparison: \(line)\(rest)")
    }
    guard let parenthesis = line.firstIndex(of: "(") else { throw malformed("") }
    let target = String(line[..<parenthesis])
    var rest = line[line.index(after: parenthesis)...]
    guard let key = GoText.takeQuoted(&rest), rest.first == ")" else {
      throw malformed("; got \(target)(\"\")  \"\"")
    }
    rest = rest.dropFirst().drop { $0 == " " || $0 == "\t" }
    let symbol = rest.prefix { $0 != " " && $0 != "\t" }
    rest = rest.dropFirst(symbol.count).drop { $0 == " " || $0 == "\t" }
    guard let value = GoText.takeQuoted(&rest) else {
      throw malformed("; got \(target)(\(GoText.quoted(key))) \(symbol) \"\"")
    }
    var compare = Etcdserverpb_Compare()
    compare.key = Data(key)
    switch symbol {
    case "=": compare.result = .equal
    case "!=": compare.result = .notEqual
    case ">": compare.result = .greater
    case "<": compare.result = .less
    default: throw malformed(" (unknown operator \(symbol))")
    }
    func number(radix: Int = 10) throws -> Int64 {
      let text = String(decoding: value, as: UTF8.self)
      guard let number = Int64(text, radix: radix) else {
        throw CtlFailure(
          .invalidInput, "invalid txn compare request: \(line) (\(goParseFailure(text)))")
      }
      return number
    }
    switch target {
    case "ver", "version":
      compare.target = .version
      compare.version = try number()
    case "c", "create":
      compare.target = .create
      compare.createRevision = try number()
    case "m", "mod":
      compare.target = .mod
      compare.modRevision = try number()
    case "val", "value":
      compare.target = .value
      compare.value = Data(value)
    case "lease":
      compare.target = .lease
      compare.lease = try number(radix: 16)
    default: throw malformed(" (unknown target \(target))")
    }
    return compare
  }
}
