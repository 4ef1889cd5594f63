import Netfilter

/// Which UDP flows a change of the rules has left behind: those to a service's address that are answered by
/// somebody who isn't a target any more.
///
/// A flow that began when the service had no target counts too: its packets went nowhere, and would go on so.
struct StaleFlows: Sendable {
  private struct Place: Hashable {
    var address: UInt32
    var port: UInt16
  }

  /// By the place that clients send to: who may answer.
  private var answers: [Place: Set<Place>] = [:]
  /// By a port of every node: who answered before and doesn't any more.
  private var gone: [UInt16: Set<Place>] = [:]

  var isEmpty: Bool { answers.isEmpty && gone.isEmpty }

  init(from old: RuleSet, to new: RuleSet) {
    for (id, before) in old.ports where before.transport == .udp {
      let after = new.ports[id]
      if after == before { continue }
      note(before.clusterAddresses, before.port, before.targets, after?.targets ?? [])
      note(
        before.externalAddresses, before.port, before.externalTargets, after?.externalTargets ?? [])
      if let number = before.nodePort.flatMap({ UInt16(exactly: $0) }) {
        let left = Set(before.externalTargets).subtracting(after?.externalTargets ?? [])
        let places = left.compactMap { Self.place($0.address, $0.port) }
        if !places.isEmpty { gone[number, default: []].formUnion(places) }
      }
    }
  }

  private mutating func note(
    _ addresses: [String], _ port: Int, _ before: [ServicePort.Target], _ after: [ServicePort.Target]
  ) {
    // Who only came doesn't concern those that others serve.
    guard before.isEmpty ? !after.isEmpty : !Set(before).isSubset(of: after) else { return }
    for address in addresses {
      guard let place = Self.place(address, port) else { continue }
      answers[place, default: []].formUnion(
        after.compactMap { Self.place($0.address, $0.port) })
    }
  }

  func contains(_ flow: ConntrackTable.Flow) -> Bool {
    let answering = Place(address: flow.replySource, port: flow.replySourcePort)
    let asked = Place(address: flow.destination, port: flow.destinationPort)
    if let answers = answers[asked] { return !answers.contains(answering) }
    return gone[flow.destinationPort]?.contains(answering) ?? false
  }

  private static func place(_ address: String, _ port: Int) -> Place? {
    guard RuleSet.isIPv4(address), let port = UInt16(exactly: port) else { return nil }
    let number = address.split(separator: ".").reduce(UInt32(0)) { $0 << 8 | (UInt32($1) ?? 0) }
    return Place(address: number, port: port)
  }
}
