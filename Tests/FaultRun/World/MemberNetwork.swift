import TestKit

/// A bridge with one network namespace per member.
///
///     10.77.0.254 ── bridge ─┬─ veth m0 ── namespace m0: 10.77.0.1
///     (clients)              ├─ veth m1 ── namespace m1: 10.77.0.2
///                            └─ ...
///
/// Packets between members cross the bridge's forward hook, where nftables drops what `Weather` says. Packets
/// of clients don't: clients always reach a member, which is what makes stale reads possible at all.
final class MemberNetwork {
  let count: Int
  /// Whether the kernel can delay packets (`tc netem`). If not, slow links are narrow ones: a token bucket
  /// whose queue makes packets wait, and drops what doesn't fit.
  let hasNetem: Bool
  private var weather = Weather()

  init(members count: Int) throws {
    self.count = count
    let names = "/run/netns"
    try Tool.run("mkdir", ["-p", names])
    try Tool.run("mount", ["-t", "tmpfs", "netns", names])
    try Tool.run("ip", ["link", "set", "lo", "up"])
    try Tool.run("ip", ["link", "add", "members", "type", "bridge"])
    try Tool.run("ip", ["addr", "add", "10.77.0.254/24", "dev", "members"])
    try Tool.run("ip", ["link", "set", "members", "up"])
    for member in 0..<count {
      let name = "m\(member)"
      try Tool.run("ip", ["netns", "add", name])
      try Tool.run(
        "ip", ["link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name])
      try Tool.run("ip", ["link", "set", name, "master", "members", "up"])
      for device in ["lo", "eth0"] { try Tool.run("ip", ["-n", name, "link", "set", device, "up"]) }
      try Tool.run("ip", ["-n", name, "addr", "add", "\(Self.address(member))/24", "dev", "eth0"])
    }
    hasNetem = (try? Tool.run("tc", ["qdisc", "add", "dev", "m0", "root", "netem", "delay", "1ms"])) != nil
    if hasNetem { try Tool.run("tc", ["qdisc", "del", "dev", "m0", "root"]) }
    try Tool.run(
      "nft", ["-f", "-"],
      input: "table bridge faults { chain forward { type filter hook forward priority 0; policy accept; }; }")
  }

  static func address(_ member: Int) -> String { "10.77.0.\(member + 1)" }

  /// What a command line begins with to run in a member's namespace.
  static func prefix(_ member: Int) throws -> [String] {
    [try Tool.required("nsenter"), "--net=/run/netns/m\(member)", "--"]
  }

  /// Makes the network be so from now on. Packets are dropped or not in one transaction.
  func apply(_ new: Weather) throws {
    var rules = "flush chain bridge faults forward\n"
    func drop(_ condition: String) { rules += "add rule bridge faults forward \(condition) drop\n" }
    for direction in new.cut.sorted(by: { ($0.from, $0.to) < ($1.from, $1.to) }) {
      drop("ip saddr \(Self.address(direction.from)) ip daddr \(Self.address(direction.to))")
    }
    for (member, percent) in new.lossPercent.sorted(by: { $0.key < $1.key }) {
      for side in ["saddr", "daddr"] {
        drop("ip \(side) \(Self.address(member)) numgen random mod 100 < \(percent)")
      }
    }
    try Tool.run("nft", ["-f", "-"], input: rules)
    for member in weather.slow.subtracting(new.slow) {
      for (namespace, device) in Self.ends(member) {
        try Tool.run("tc", namespace + ["qdisc", "del", "dev", device, "root"])
      }
    }
    let discipline =
      hasNetem
      ? ["netem", "delay", "60ms", "40ms", "loss", "0.5%"]
      : ["tbf", "rate", "600kbit", "burst", "8kb", "latency", "400ms"]
    for member in new.slow.subtracting(weather.slow) {
      for (namespace, device) in Self.ends(member) {
        try Tool.run("tc", namespace + ["qdisc", "add", "dev", device, "root"] + discipline)
      }
    }
    weather = new
  }

  /// The two ends of a member's veth pair, for both directions.
  private static func ends(_ member: Int) -> [(namespace: [String], device: String)] {
    [([], "m\(member)"), (["-n", "m\(member)"], "eth0")]
  }
}

/// What the network does to packets between members.
struct Weather: Equatable {
  struct Direction: Hashable {
    var from: Int
    var to: Int
  }

  /// Nothing gets through in these directions.
  var cut: Set<Direction> = []
  /// Of the packets to and from these members so many in a hundred are lost, each way.
  var lossPercent: [Int: Int] = [:]
  /// Their links are slow; clients' too.
  var slow: Set<Int> = []

  /// Cuts every pair with one end in each group, both ways.
  mutating func divide(_ group: [Int], from other: [Int]) {
    for left in group {
      for right in other where left != right {
        cut.insert(Direction(from: left, to: right))
        cut.insert(Direction(from: right, to: left))
      }
    }
  }
}
