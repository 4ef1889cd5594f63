import ArgumentParser

/// Where a server listens.
struct Endpoint: Hashable, Sendable {
  var host: String
  var port: Int

  /// As in an `:authority` header.
  var authority: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

extension Endpoint: ExpressibleByArgument {
  /// `host:port`, with or without a scheme: what is spoken is decided by `--cacert`.
  init?(argument: String) {
    let scheme = ["http://", "https://"].first { argument.hasPrefix($0) }
    let address = String(argument.dropFirst(scheme?.count ?? 0))
    guard let colon = address.lastIndex(of: ":"),
      let port = Int(address[address.index(after: colon)...]),
      (1...65535).contains(port), colon > address.startIndex
    else { return nil }
    // An IPv6 address stands in brackets, which are not part of it.
    let host = address[..<colon].drop { $0 == "[" }
    self.init(host: String(host.last == "]" ? host.dropLast() : host), port: port)
  }
}

/// How a run is connected and how long it takes; common to all commands.
struct RunOptions: ParsableArguments {
  @Option(
    name: .long, parsing: .upToNextOption,
    help: "The servers, as host:port; connections are spread over them in turn.")
  var endpoints: [Endpoint] = [Endpoint(host: "127.0.0.1", port: 2379)]

  @Option(name: .customLong("cacert"), help: "Speak TLS, and trust the authorities in this PEM file.")
  var authorities: String?

  @Option(name: .long, help: "Connections.")
  var connections = 8

  @Option(name: .long, help: "Requests under way on each connection.")
  var outstanding = 16

  @Option(name: .long, help: "Event loops, each on a thread of its own.")
  var threads = 1

  @Option(name: .long, help: "Requests per second over all connections; without it, a closed loop.")
  var rate: Double?

  @Option(name: .long, help: "Seconds to run, unless --total is given.")
  var duration = 10.0

  @Option(name: .long, help: "Requests to send, instead of --duration.")
  var total: UInt64?

  @Option(name: .long, help: "Seconds of the same load before it is measured.")
  var warmUp = 1.0

  @Option(name: .long, help: "Bytes of a key.")
  var keySize = 24

  @Option(name: .long, help: "Bytes of a value.")
  var valueSize = 256

  @Option(name: .long, help: "What values look like: random or json.")
  var values = ValueKind.random

  @Option(name: .long, help: "How many keys the run touches.")
  var keyCount: UInt64 = 1_000_000

  @Option(name: .long, help: "Seed of keys and values.")
  var seed: UInt64 = 1

  @Option(name: .long, help: "Also write the result as JSON to this file.")
  var json: String?

  @Option(name: .long, help: "A name for the run in its result.")
  var label = ""

  @Option(
    name: .long, parsing: .upToNextOption,
    help: "Process ids whose CPU time and memory are reported with the result.")
  var watchPid: [Int32] = []

  @Option(
    name: .long, help: "A disk of /proc/diskstats whose flushes are reported with the result.")
  var watchDisk: String?

  @Flag(name: .long, help: "No progress lines.")
  var quiet = false

  func validate() throws {
    func require(_ condition: Bool, _ message: String) throws {
      if !condition { throw ValidationError(message) }
    }
    try require(!endpoints.isEmpty, "at least one endpoint is needed")
    try require((1...10_000).contains(connections), "--connections is 1 to 10,000")
    try require((1...10_000).contains(outstanding), "--outstanding is 1 to 10,000")
    try require((1...256).contains(threads), "--threads is 1 to 256")
    try require(rate.map { $0 > 0 } ?? true, "--rate is above 0")
    try require(duration > 0 && duration < 1e6 && warmUp >= 0 && warmUp < 1e6, "times are positive")
    try require((1...16_384).contains(keySize), "--key-size is 1 to 16,384")
    try require((0...(16 << 20)).contains(valueSize), "--value-size is 0 to 16 MiB")
    try require(keyCount > 0, "--key-count is above 0")
    try require(
      KeySpace(keySize: keySize).capacity >= keyCount,
      "keys of \(keySize) bytes can't be \(keyCount) different ones")
  }
}
