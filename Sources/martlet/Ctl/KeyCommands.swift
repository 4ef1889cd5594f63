import ArgumentParser
import EtcdClient
import EtcdProto
import Foundation
import SwiftProtobuf

// get, put, del, compaction. The requests are made apart from the calls: transactions hold them too.

/// `martlet ctl get`
struct GetCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "get", abstract: "Get the key or a range of keys.")

  @OptionGroup var options: CtlOptions
  @OptionGroup var request: GetArguments

  @Flag(help: "Only write values when using the simple output format.")
  var printValueOnly = false

  func run() async throws {
    let printer = try options.printer()
    let message = try request.message()
    let client = try await options.client()
    let answer: Etcdserverpb_RangeResponse = try await calling {
      try await client.call("KV/Range", message, isSafe: true)
    }
    if request.countOnly, printer.format != .fields {
      throw CtlFailure.arguments("--count-only is only for `--write-out=fields`")
    }
    if printValueOnly, printer.format != .simple {
      throw CtlFailure.arguments("print-value-only is only for `--write-out=simple`")
    }
    printer.printsValuesOnly = printValueOnly
    try printer.print(answer)
  }
}

struct GetArguments: ParsableArguments {
  @Argument(help: "The key, and where the range ends.")
  var arguments: [String] = []

  @Option(help: "Linearizable(l) or Serializable(s).")
  var consistency = "l"

  @Option(help: "Order of results: ASCEND or DESCEND.")
  var order = ""

  @Option(help: "CREATE, KEY, MODIFY, VALUE or VERSION.")
  var sortBy = ""

  @Option(help: "Maximum number of results.")
  var limit: Int64 = 0

  @Flag(help: "Get keys with matching prefix.")
  var prefix = false

  @Flag(help: "Get keys that are greater than or equal to the given key.")
  var fromKey = false

  @Option(help: "The revision to read at.")
  var rev: Int64 = 0

  @Flag(help: "Get only the keys.")
  var keysOnly = false

  @Flag(help: "Get only the count.")
  var countOnly = false

  func message() throws -> Etcdserverpb_RangeRequest {
    guard !arguments.isEmpty else {
      throw CtlFailure.arguments(
        "get command needs one argument as key and an optional argument as range_end")
    }
    guard !(keysOnly && countOnly) else {
      throw CtlFailure.arguments(
        "`--keys-only` and `--count-only` cannot be set at the same time, choose one")
    }
    var request = Etcdserverpb_RangeRequest()
    switch consistency {
    case "s": request.serializable = true
    case "l": break
    default:
      throw CtlFailure(.badFeature, "unknown consistency flag \(GoText.quoted(consistency))")
    }
    (request.key, request.rangeEnd) = try keyRange(
      arguments, isPrefix: prefix, isFromKey: fromKey)
    request.limit = limit
    if rev > 0 { request.revision = rev }
    switch order.uppercased() {
    case "": break
    case "ASCEND": request.sortOrder = .ascend
    case "DESCEND": request.sortOrder = .descend
    default: throw CtlFailure(.badFeature, "bad sort order \(order)")
    }
    switch sortBy.uppercased() {
    case "", "KEY": request.sortTarget = .key
    case "CREATE": request.sortTarget = .create
    case "MODIFY": request.sortTarget = .mod
    case "VALUE": request.sortTarget = .value
    case "VERSION": request.sortTarget = .version
    default: throw CtlFailure(.badFeature, "bad sort target \(sortBy)")
    }
    // Keys come in order anyway.
    if request.sortTarget == .key, request.sortOrder == .ascend { request.sortOrder = .none }
    request.keysOnly = keysOnly
    request.countOnly = countOnly
    return request
  }
}

/// `martlet ctl put`
struct PutCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "put", abstract: "Put the given key into the store.",
    discussion: """
      Without a value, standard input is the value. A value that begins with '-' goes behind '--':

        martlet ctl put key -- -1
      """)

  @OptionGroup var options: CtlOptions
  @OptionGroup var request: PutArguments

  func run() async throws {
    let printer = try options.printer()
    let message = try request.message()
    let client = try await options.client()
    try printer.print(
      try await calling {
        try await client.call("KV/Put", message) as Etcdserverpb_PutResponse
      })
  }
}

struct PutArguments: ParsableArguments {
  @Argument(help: "The key and the value.")
  var arguments: [String] = []

  @Option(help: "Lease ID (in hexadecimal) to attach to the key.")
  var lease = "0"

  @Flag(help: "Return the previous key-value pair before modification.")
  var prevKv = false

  @Flag(help: "Updates the key using its current value.")
  var ignoreValue = false

  @Flag(help: "Updates the key using its current lease.")
  var ignoreLease = false

  func message() throws -> Etcdserverpb_PutRequest {
    let usage = "put command needs 1 argument and input from stdin or 2 arguments"
    guard let key = arguments.first else { throw CtlFailure.arguments(usage) }
    guard !ignoreValue || arguments.count == 1 else {
      throw CtlFailure.arguments("put command needs only 1 argument when 'ignore-value' is set")
    }
    var request = Etcdserverpb_PutRequest()
    request.key = Data(key.utf8)
    if !ignoreValue {
      if arguments.count > 1 {
        request.value = Data(arguments[1].utf8)
      } else {
        request.value = FileHandle.standardInput.readDataToEndOfFile()
        guard !request.value.isEmpty else { throw CtlFailure.arguments(usage) }
      }
    }
    guard let id = Int64(lease, radix: 16) else {
      throw CtlFailure.arguments(
        "bad lease ID (\(goParseFailure(lease))), expecting ID in Hex")
    }
    request.lease = id
    request.prevKv = prevKv
    request.ignoreValue = ignoreValue
    request.ignoreLease = ignoreLease
    return request
  }
}

/// `martlet ctl del`
struct DelCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "del", abstract: "Remove the specified key or range of keys [key, range_end).")

  @OptionGroup var options: CtlOptions
  @OptionGroup var request: DelArguments

  func run() async throws {
    let printer = try options.printer()
    let message = try request.message()
    let client = try await options.client()
    try printer.print(
      try await calling {
        try await client.call("KV/DeleteRange", message) as Etcdserverpb_DeleteRangeResponse
      })
  }
}

struct DelArguments: ParsableArguments {
  @Argument(help: "The key, and where the range ends.")
  var arguments: [String] = []

  @Flag(help: "Delete keys with matching prefix.")
  var prefix = false

  @Flag(help: "Return deleted key-value pairs.")
  var prevKv = false

  @Flag(help: "Delete keys that are greater than or equal to the given key.")
  var fromKey = false

  @Flag(help: "Delete a range of keys (said for safety's sake; ranges are deleted without it too).")
  var range = false

  func message() throws -> Etcdserverpb_DeleteRangeRequest {
    guard (1...2).contains(arguments.count) else {
      throw CtlFailure.arguments(
        "del command needs one argument as key and an optional argument as range_end")
    }
    var request = Etcdserverpb_DeleteRangeRequest()
    (request.key, request.rangeEnd) = try keyRange(
      arguments, isPrefix: prefix, isFromKey: fromKey)
    request.prevKv = prevKv
    return request
  }
}

/// `martlet ctl compaction`
struct CompactionCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compaction", abstract: "Compact the event history.")

  @OptionGroup var options: CtlOptions
  @Argument(help: "The revision.") var arguments: [String] = []
  @Flag(help: "Wait for compaction to physically remove all old revisions.") var physical = false

  func run() async throws {
    guard arguments.count == 1 else {
      throw CtlFailure.arguments("compaction command needs 1 argument")
    }
    guard let revision = Int64(arguments[0]) else {
      throw CtlFailure(.error, goParseFailure(arguments[0]))
    }
    var request = Etcdserverpb_CompactionRequest()
    request.revision = revision
    request.physical = physical
    let client = try await options.client()
    let message = request
    _ = try await calling {
      try await client.call("KV/Compact", message) as Etcdserverpb_CompactionResponse
    }
    CtlOutput.line("compacted revision \(revision)")
  }
}

// MARK: What they share

/// A key, or a range of keys, as the arguments and flags of get and del say.
func keyRange(
  _ arguments: [String], isPrefix: Bool, isFromKey: Bool
) throws -> (key: Data, end: Data) {
  guard !(isPrefix && isFromKey) else {
    throw CtlFailure.arguments(
      "`--prefix` and `--from-key` cannot be set at the same time, choose one")
  }
  if arguments.count > 1 {
    guard !isPrefix, !isFromKey else {
      throw CtlFailure.arguments(
        "too many arguments, only accept one argument when `--prefix` or `--from-key` is set")
    }
    return (Data(arguments[0].utf8), Data(arguments[1].utf8))
  }
  let key = Array(arguments[0].utf8)
  if isFromKey || (isPrefix && key.isEmpty) { return (Data(key.isEmpty ? [0] : key), Data([0])) }
  return (Data(key), isPrefix ? Data(StoreRange.endOfPrefix(key)) : Data())
}

/// What Go says of text that is no number.
func goParseFailure(_ text: String, function: String = "ParseInt") -> String {
  let digits = text.hasPrefix("-") ? text.dropFirst() : text[...]
  let isNumber = !digits.isEmpty && digits.allSatisfy(\.isHexDigit)
  return "strconv.\(function): parsing \(GoText.quoted(text)): "
    + (isNumber && Int64(digits, radix: 10) == nil && digits.allSatisfy(\.isNumber)
      ? "value out of range" : "invalid syntax")
}
