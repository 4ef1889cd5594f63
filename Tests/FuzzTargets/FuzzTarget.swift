import Primitives

/// What is fuzzed: every decoder that sees bytes of others, and `Store.apply` itself.
///
/// Each target takes any bytes and must come back. Beyond that each holds a property: what was read and
/// written again reads the same, however the bytes are cut the outcome is one, and all members that apply the
/// same entries agree. `FuzzTests` replays the corpus; `martlet-fuzz`, built with libFuzzer, drives a target by
/// coverage.
public enum FuzzTarget: String, CaseIterable, Sendable {
  /// A server's HTTP/2 connection, past the preface: frames and header compression.
  case http2
  /// Protobuf requests of clients.
  case requests
  /// The JSON gateway's requests and answers.
  case gateway
  /// A member's configuration file.
  case configuration
  /// Messages between members.
  case peers
  /// A segment of the write-ahead log.
  case log
  /// A snapshot file.
  case snapshot
  /// Entries of the replicated log, applied on several members.
  case apply
  /// An etcd snapshot that is imported.
  case etcdImport = "import"

  /// Runs the target on an input; a broken property ends the process.
  public func run(_ bytes: [UInt8]) {
    switch self {
    case .http2: fuzzConnection(bytes)
    case .requests:
      fuzzRequests(bytes)
      fuzzAgreement(bytes)
    case .gateway: fuzzGateway(bytes)
    case .configuration: fuzzConfiguration(bytes)
    case .peers: fuzzPeerMessage(bytes)
    case .log: fuzzLog(bytes)
    case .snapshot: fuzzSnapshot(bytes)
    case .apply: fuzzApply(bytes)
    case .etcdImport: fuzzImport(bytes)
    }
  }

  /// Well-formed inputs to start from.
  public var seeds: [[UInt8]] {
    switch self {
    case .http2: connectionSeeds()
    case .requests: requestSeeds()
    case .gateway: gatewaySeeds()
    case .configuration: configurationSeeds()
    case .peers: peerMessageSeeds()
    case .log: logSeeds()
    case .snapshot: snapshotSeeds()
    case .apply: applySeeds()
    case .etcdImport: importSeeds()
    }
  }

  /// A damaged copy of a seed, or noise.
  public func input(_ random: inout RandomSource) -> [UInt8] {
    let seeds = seeds
    var bytes = seeds[Int(random.below(UInt64(seeds.count)))]
    if random.oneIn(8) {
      bytes = (0..<random.below(200)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    }
    if random.oneIn(4) { bytes += seeds[Int(random.below(UInt64(seeds.count)))] }
    for _ in 0..<random.below(6) where !bytes.isEmpty {
      let place = Int(random.below(UInt64(bytes.count)))
      switch random.below(6) {
      case 0: bytes[place] = UInt8(truncatingIfNeeded: random.next())
      case 1: bytes[place] = [0, 0x7F, 0x80, 0xFF][Int(random.below(4))]
      case 2: bytes[place] ^= 1 << UInt8(random.below(8))
      case 3: bytes.remove(at: place)
      case 4: bytes.insert(UInt8(truncatingIfNeeded: random.next()), at: place)
      default: bytes.removeLast(Int(random.below(UInt64(bytes.count))))
      }
    }
    return bytes
  }
}
