import EtcdProto
import Foundation
import TestKit

#if canImport(Glibc)
  import Glibc
#endif

extension FaultInjector {
  // MARK: Processes

  func kill(_ members: [Int]) throws {
    for member in members { cluster.kill(member) }
    pause(0.05, 3)
    for member in members { try cluster.start(member) }
  }

  func freeze(_ member: Int) throws {
    cluster.pause(member)
    // Longer than an election, mostly.
    pause(0.3, 5)
    cluster.goOn(member)
  }

  // MARK: Network

  func isolate(_ member: Int) throws {
    var weather = Weather()
    weather.divide([member], from: Array(cluster.members.indices))
    try cluster.network.apply(weather)
    pause(0.5, 5)
  }

  func divide() throws {
    let order = shuffledMembers()
    let minority = 1 + below(max(1, (order.count - 1) / 2))
    var weather = Weather()
    weather.divide(Array(order.prefix(minority)), from: Array(order.dropFirst(minority)))
    try cluster.network.apply(weather)
    pause(1, 5)
  }

  /// A member that hears but isn't heard, or the other way round.
  func cutOneWay() throws {
    let member = oneIn(2) ? leader() : any()
    let hears = oneIn(2)
    var weather = Weather()
    for other in cluster.members.indices where other != member {
      weather.cut.insert(
        hears ? .init(from: member, to: other) : .init(from: other, to: member))
    }
    try cluster.network.apply(weather)
    pause(1, 5)
  }

  func cutPair() throws {
    let order = shuffledMembers()
    var weather = Weather()
    weather.divide([order[0]], from: [order[1]])
    try cluster.network.apply(weather)
    pause(1, 5)
  }

  func losePackets() throws {
    var weather = Weather()
    for member in cluster.members.indices where oneIn(2) { weather.lossPercent[member] = 2 + below(25) }
    try cluster.network.apply(weather)
    pause(1, 5)
  }

  func slowDown() throws {
    var weather = Weather()
    weather.slow = oneIn(2) ? [leader()] : Set(shuffledMembers().prefix(2))
    try cluster.network.apply(weather)
    pause(1, 5)
  }

  // MARK: Operators

  func restartInTurn() throws {
    for member in shuffledMembers() {
      try cluster.stop(member)
      try cluster.start(member)
      try awaitService(of: [member], seconds: 60)
    }
  }

  func transferLeadership() throws {
    let leader = leader()
    let target = (leader + 1 + below(cluster.members.count - 1)) % cluster.members.count
    guard let id = admin.status(of: target)?.memberID else { return }
    // It may be refused, as when leadership has just changed.
    do { try admin.moveLeader(from: leader, to: id) } catch { say("not transferred: \(error)") }
  }

  /// A member's machine is lost with its disk; another takes its place, by way of a learner.
  func replaceMember(_ member: Int) throws {
    try awaitService(of: Array(cluster.members.indices), seconds: 60)
    let others = cluster.members.indices.filter { $0 != member }
    let url = "http://\(MemberNetwork.address(member)):2380"
    let id = try admin.insist(seconds: 30) { () throws -> UInt64 in
      let listed = try admin.members(at: others[0])
      guard let old = listed.first(where: { $0.peerUrls == [url] }) else {
        throw FaultRunFailure("m\(member) is not in the member list: \(listed)")
      }
      return old.id
    }
    let isDeadFirst = oneIn(2)
    if isDeadFirst { cluster.kill(member) }
    // An answer that was lost makes the second attempt fail: gone is gone.
    try admin.insist(seconds: 30) {
      if try admin.members(at: others[0]).contains(where: { $0.id == id }) {
        try admin.remove(id, at: others[0])
      }
    }
    if !isDeadFirst, !cluster.awaitEnd(of: member, seconds: 20) {
      throw FaultRunFailure(
        "m\(member) runs on 20 s after it was removed from the cluster", log: cluster.log(of: member))
    }
    try cluster.replaceData(of: member)
    let new = try admin.insist(seconds: 30) { () throws -> UInt64 in
      if let added = try admin.members(at: others[0]).first(where: { $0.peerUrls == [url] }) { return added.id }
      return try admin.addLearner(url, at: others[0])
    }
    pause(0, 1)
    try cluster.start(member)
    try admin.insist(seconds: 60) {
      try cluster.verifyAlive()
      guard let listed = try admin.members(at: others[0]).first(where: { $0.id == new }) else {
        throw FaultRunFailure("the learner is gone from the member list")
      }
      if listed.isLearner { try admin.promote(new, at: others[0]) }
    }
    try awaitService(of: [member], seconds: 60)
  }
}
