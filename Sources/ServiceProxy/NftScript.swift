/// Prints rule sets as programs for `nft -f`, each of which the kernel takes as a whole or not at all.
///
/// ```
/// table ip martlet
///   chain prerouting, output   ──▶ chain services: ClusterIPs and node ports, by two maps
///   map   addresses, nodePorts ──▶ chain s-ID (a service port) ──▶ a target, at random
///   set   closed, closedPorts      what has no target: TCP is reset at once, the rest refused
///   chain postrouting          ──▶ masquerade what must come back through this node: a pod that reaches
///                                  itself (set hairpin), and packets that a node port sent on (a mark)
/// ```
///
/// A look-up in a map costs the same for one service and for thousands. Connections that are established
/// are with conntrack and meet none of these rules, so no change touches them. Chains of services with
/// affinity have a chain and a set for each target: the set remembers who was sent there.
public struct NftScript {
  public static let table = "ip martlet"
  /// The bit of the packet mark that asks for masquerading; kube-proxy's own.
  static let mark = "0x4000"
  /// The bit that forbids it: who asks is to be seen.
  static let keepMark = "0x8000"

  /// What the rules must know of the cluster's network.
  public struct Network: Sendable, Equatable {
    /// All pods' addresses; what comes from elsewhere to a service is masqueraded. Nil: nothing is known.
    public var pods: String?
    public init(pods: String? = nil) { self.pods = pods }
  }

  private(set) var lines: [String] = []

  /// Everything anew.
  public static func full(_ rules: RuleSet, _ network: Network) -> String {
    var script = NftScript()
    script.lines = [
      "add table \(table)", "delete table \(table)", "add table \(table)",
    ]
    script.addFrame(network)
    script.apply(from: RuleSet(), to: rules)
    return script.text
  }

  /// What leads from one rule set to another; empty if nothing does.
  public static func change(from old: RuleSet, to new: RuleSet) -> String {
    var script = NftScript()
    script.apply(from: old, to: new)
    return script.text
  }

  /// Takes everything away.
  public static let removal = "add table \(table)\ndelete table \(table)\n"

  private var text: String { lines.map { $0 + "\n" }.joined() }

  private mutating func add(_ line: String) { lines.append(line) }

  private mutating func addFrame(_ network: Network) {
    let table = Self.table
    add("add map \(table) addresses { type ipv4_addr . inet_proto . inet_service : verdict ; }")
    add("add map \(table) nodePorts { type inet_proto . inet_service : verdict ; }")
    add("add set \(table) closed { type ipv4_addr . inet_proto . inet_service ; }")
    add("add set \(table) closedPorts { type inet_proto . inet_service ; }")
    add("add set \(table) hairpin { type ipv4_addr . ipv4_addr ; }")
    add("add chain \(table) services")
    add("add rule \(table) services ip daddr . meta l4proto . th dport vmap @addresses")
    add(
      "add rule \(table) services fib daddr type local ip daddr != 127.0.0.0/8 "
        + "meta l4proto . th dport vmap @nodePorts")
    add("add chain \(table) refuse")
    add("add rule \(table) refuse meta l4proto tcp reject with tcp reset")
    add("add rule \(table) refuse reject")
    for hook in ["input", "forward", "output"] {
      let chain = "refuse-\(hook)"
      add("add chain \(table) \(chain) { type filter hook \(hook) priority 0 ; }")
      add("add rule \(table) \(chain) ct state new ip daddr . meta l4proto . th dport @closed goto refuse")
      if hook == "input" {
        add(
          "add rule \(table) \(chain) ct state new fib daddr type local "
            + "meta l4proto . th dport @closedPorts goto refuse")
      }
    }
    // nft 1.0.6 knows the names of priorities for some hooks only.
    add("add chain \(table) prerouting { type nat hook prerouting priority -100 ; }")
    add("add rule \(table) prerouting jump services")
    add("add chain \(table) output { type nat hook output priority -100 ; }")
    add("add rule \(table) output jump services")
    add("add chain \(table) postrouting { type nat hook postrouting priority 100 ; }")
    add("add rule \(table) postrouting meta mark and \(Self.mark) != 0 meta mark set meta mark xor \(Self.mark) masquerade")
    add("add rule \(table) postrouting ip saddr . ip daddr @hairpin masquerade")
    if let pods = network.pods {
      // What comes from outside was led on here, so its answer must come back here.
      add(
        "add rule \(table) postrouting ct status dnat meta mark and \(Self.keepMark) == 0 "
          + "ip saddr != \(pods) ip daddr \(pods) masquerade")
      // To the world outside, pods' addresses mean nothing.
      add("add rule \(table) postrouting ip saddr \(pods) ip daddr != \(pods) masquerade")
    }
  }

  // MARK: Service ports

  private struct Elements {
    /// Element by its key, for each map and set.
    var byContainer: [String: [String: String]] = [:]

    init(_ rules: RuleSet) {
      for (id, port) in rules.ports {
        for address in port.clusterAddresses {
          put(port.targets, "addresses", "closed", "\(address) . \(port.key(port.port))", "s-\(id)", port)
        }
        for address in port.externalAddresses {
          put(
            port.externalTargets, "addresses", "closed", "\(address) . \(port.key(port.port))",
            "x-\(id)", port)
        }
        if let number = port.nodePort {
          put(port.externalTargets, "nodePorts", "closedPorts", port.key(number), "x-\(id)", port)
        }
        for target in Set(port.targets + port.externalTargets) {
          let pair = "\(target.address) . \(target.address)"
          byContainer["hairpin", default: [:]][pair] = pair
        }
      }
    }

    private mutating func put(
      _ targets: [ServicePort.Target], _ map: String, _ set: String, _ key: String,
      _ chain: String, _ port: ServicePort
    ) {
      let comment = "comment \"\(port.name)\""
      if targets.isEmpty {
        byContainer[set, default: [:]][key] = "\(key) \(comment)"
      } else {
        byContainer[map, default: [:]][key] = "\(key) \(comment) : goto \(chain)"
      }
    }
  }

  private mutating func apply(from old: RuleSet, to new: RuleSet) {
    let table = Self.table
    // Chains first, elements then: an element may only lead to a chain that is there, and a chain may
    // only go when no element leads to it.
    let ids = Set(old.ports.keys).union(new.ports.keys).sorted()
    var removals: [String] = []
    for id in ids where old.ports[id] != new.ports[id] {
      let before = old.ports[id].map { $0.chains(id) } ?? [:]
      let after = new.ports[id].map { $0.chains(id) } ?? [:]
      let setsBefore = Set(old.ports[id].map { $0.affinitySets(id) } ?? [])
      let setsAfter = Set(new.ports[id].map { $0.affinitySets(id) } ?? [])
      for set in setsAfter.subtracting(setsBefore).sorted() {
        let seconds = new.ports[id]?.affinitySeconds ?? 0
        add(
          "add set \(table) \(set) { type ipv4_addr ; flags dynamic,timeout ; timeout \(seconds)s ; }")
      }
      // A chain that others lead to must be there before their rules: targets' chains sort first.
      for chain in after.keys.sorted() where before[chain] == nil { add("add chain \(table) \(chain)") }
      for chain in before.keys.sorted() where before[chain] != after[chain] {
        add("flush chain \(table) \(chain)")
      }
      for chain in after.keys.sorted() where before[chain] != after[chain] {
        for rule in after[chain] ?? [] { add("add rule \(table) \(chain) \(rule)") }
      }
      // Leading chains before those that they lead to.
      for chain in before.keys.sorted().reversed() where after[chain] == nil {
        removals.append("delete chain \(table) \(chain)")
      }
      for set in setsBefore.subtracting(setsAfter).sorted() {
        removals.append("delete set \(table) \(set)")
      }
    }
    let before = Elements(old).byContainer
    let after = Elements(new).byContainer
    for container in ["addresses", "nodePorts", "closed", "closedPorts", "hairpin"] {
      let mine = before[container] ?? [:]
      let theirs = after[container] ?? [:]
      let gone = mine.filter { theirs[$0.key] != $0.value }.keys.sorted()
      let come = theirs.filter { mine[$0.key] != $0.value }.sorted { $0.key < $1.key }
      if !gone.isEmpty {
        add("delete element \(table) \(container) { \(gone.joined(separator: ", ")) }")
      }
      if !come.isEmpty {
        add(
          "add element \(table) \(container) { \(come.map(\.value).joined(separator: ", ")) }")
      }
    }
    lines += removals
  }
}

extension ServicePort {
  fileprivate func key(_ number: Int) -> String { "\(transport.rawValue) . \(number)" }

  private var hasExternal: Bool { !externalAddresses.isEmpty || nodePort != nil }

  /// The sets in which a service with affinity remembers its clients, one a target.
  fileprivate func affinitySets(_ id: String) -> [String] {
    guard affinitySeconds != nil else { return [] }
    return Set(targets + externalTargets).map { Self.set(id, $0, affinitySeconds ?? 0) }
  }

  private static func set(_ id: String, _ target: Target, _ seconds: Int64) -> String {
    "a-\(id)-\(target.address)-\(target.port)-\(seconds)"
  }

  /// The rules of all chains of this port, by the chain's name.
  fileprivate func chains(_ id: String) -> [String: [String]] {
    var chains: [String: [String]] = [:]
    if let affinitySeconds {
      for target in Set(targets + externalTargets) {
        chains["e-\(id)-\(target.address)-\(target.port)"] = [
          "update @\(Self.set(id, target, affinitySeconds)) { ip saddr }",
          "meta l4proto \(transport.rawValue) dnat to \(target)",
        ]
      }
    }
    if !targets.isEmpty { chains["s-\(id)"] = rules(id, targets) }
    if hasExternal, !externalTargets.isEmpty {
      // From outside, the answer must come back this way, unless only this node's pods are asked.
      let bit = keepsSource ? NftScript.keepMark : NftScript.mark
      let masquerade = ["meta mark set meta mark or \(bit)"]
      chains["x-\(id)"] = masquerade + rules(id, externalTargets)
    }
    return chains
  }

  private func rules(_ id: String, _ targets: [Target]) -> [String] {
    guard let affinitySeconds else {
      if targets.count == 1 {
        return ["meta l4proto \(transport.rawValue) dnat to \(targets[0])"]
      }
      let choices = targets.enumerated().map { "\($0) : \($1.address) . \($1.port)" }
      return [
        "meta l4proto \(transport.rawValue) dnat ip addr . port to "
          + "numgen random mod \(targets.count) map { \(choices.joined(separator: ", ")) }"
      ]
    }
    func chain(_ target: Target) -> String { "e-\(id)-\(target.address)-\(target.port)" }
    let remembered = targets.map {
      "ip saddr @\(Self.set(id, $0, affinitySeconds)) goto \(chain($0))"
    }
    let choices = targets.enumerated().map { "\($0) : goto \(chain($1))" }
    return remembered + [
      "numgen random mod \(targets.count) vmap { \(choices.joined(separator: ", ")) }"
    ]
  }
}
