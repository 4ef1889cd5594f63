import ArgumentParser
import CCounting
import EtcdServer
import EtcdWire
import Foundation
import HTTP2
import NIOCore
import NIOEmbedded
import Primitives

/// Counts what operations cost in instructions and allocations: figures that don't depend on who else uses the machine.
///
/// One thread is client, server and three members. What is counted begins with the bytes that the server reads and
/// ends with those that it writes, for all three members. Instructions are counted by callgrind, which
/// `Scripts/counts` runs this under.
@main
struct MartletCounts: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "martlet-counts", abstract: "Counts the allocations of an operation; see Scripts/counts.")

  enum Operation: String, CaseIterable, ExpressibleByArgument {
    case put, txn, watch
    case serializableGet = "get-serializable"
    case linearizableGet = "get-linearizable"
    case keepAlive = "keep-alive"
  }

  @Argument(help: "One of: put, txn, get-serializable, get-linearizable, keep-alive, watch (an event of it).")
  var operation: Operation

  @Option(name: .long, help: "How many are counted.")
  var operations = 6_400

  @Option(name: .long, help: "Requests that arrive in one read.")
  var batch = 64

  @Option(name: .long, help: "A folder for the members' files.")
  var directory: String

  func run() throws {
    let counting = try Counting(directory: directory, batch: batch)
    try counting.prepare(operation)
    // What grows to its final size does so before.
    try counting.run(operation, count: batch * 20, isCounted: false)
    try counting.run(operation, count: operations, isCounted: true)
    let totals = ccounting_read()
    let count = Double(counting.counted)
    print(
      String(
        format: "{\"operation\": \"%@\", \"operations\": %d, \"allocations\": %.3f, \"bytes\": %.1f}",
        operation.rawValue, counting.counted, Double(totals.allocations) / count,
        Double(totals.bytes) / count))
  }
}
