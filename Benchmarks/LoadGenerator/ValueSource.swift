import ArgumentParser
import Primitives

/// What the values look like. It matters to whoever compresses: random bytes don't, objects do.
enum ValueKind: String, CaseIterable, ExpressibleByArgument, Codable, Sendable {
  case random
  case json
}

/// The values that a run writes: a few different ones of one size, the same for the same seed, so that
/// a later run can tell whether it reads what this one wrote.
struct ValueSource: Sendable {
  /// How many values of `size` bytes there are: so many that hardly one comes twice within the reach of a
  /// compressor (64 KiB of LZ4's), which repetition would flatter; so few that they stay in the cache.
  static func variants(size: Int) -> Int { min(max((1 << 20) / max(size, 1), 32), 4_096) }

  let values: [[UInt8]]

  init(kind: ValueKind, size: Int, seed: UInt64) {
    var random = RandomSource(seed: seed)
    values = (0..<Self.variants(size: size)).map { variant in
      switch kind {
      case .random: (0..<size).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      case .json: Self.object(size: size, variant: variant, random: &random)
      }
    }
  }

  /// Text in the manner of a Kubernetes object, cut to `size`.
  private static func object(size: Int, variant: Int, random: inout RandomSource) -> [UInt8] {
    func hexadecimal(_ digits: Int, _ number: UInt64) -> String {
      let text = String(number, radix: 16)
      return String(repeating: "0", count: max(0, digits - text.count)) + text.suffix(digits)
    }
    let uid = hexadecimal(8, random.next()) + "-" + hexadecimal(12, random.next())
    var text =
      #"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web-\#(variant)","namespace":"default","#
      + #""uid":"\#(uid)","creationTimestamp":"2026-01-01T00:00:00Z","labels":{"app":"web"}},"#
      + #""status":{"phase":"Running","conditions":["#
    while text.utf8.count < size {
      text +=
        #"{"type":"Ready","status":"True","lastProbeTime":null,"#
        + #""lastTransitionTime":"2026-01-01T00:00:\#(random.below(60))Z","#
        + #""reason":"\#(hexadecimal(6, random.next()))"},"#
    }
    return Array(text.utf8.prefix(size))
  }
}
