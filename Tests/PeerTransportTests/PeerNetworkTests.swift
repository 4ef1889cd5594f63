import Logging
import Primitives
import Raft
import Replica
import Synchronization
import TestKit
import Testing

@testable import PeerTransport

/// What one member says arrives at the other: whole, once and in order, whichever way it takes.
@Suite(.serialized) struct PeerNetworkTests {
  final class Receiver: PeerReceiver {
    let received = Mutex<[PeerMessage]>([])
    let lost = Mutex(0)
    /// Holds the receiving event loop up, so that the socket fills.
    let delay = Mutex(Duration.zero)

    func receive(_ messages: [PeerMessage], from peer: NodeID) {
      let delay = delay.withLock { $0 }
      if delay > .zero { blockingSleep(delay) }
      received.withLock { $0 += messages }
    }
    func connectionLost(to peer: NodeID) { lost.withLock { $0 += 1 } }
    let removed = Mutex(false)
    func removedFromCluster() { removed.withLock { $0 = true } }
  }

  struct Pair {
    var networks: [PeerNetwork] = []
    var receivers: [Receiver] = []
    var roster = ClusterRoster(members: [])

    /// - Parameter isForgotten: whether the second member has never heard of the first.
    static func start(isForgotten: Bool = false) async throws -> Pair {
      var pair = Pair()
      let ports = try [Loopback.freePort(), Loopback.freePort()]
      pair.roster.members = ports.enumerated().map { index, port in
        ClusterMember(
          id: NodeID(UInt64(index + 1)), name: "m\(index)",
          peerURLs: ["http://127.0.0.1:\(port)"], clientURLs: [])
      }
      for own in 0..<2 {
        var roster = pair.roster
        if isForgotten, own == 1 { roster.members.removeFirst() }
        let network = PeerNetwork(
          settings: PeerNetwork.Settings(
            cluster: 7, member: NodeID(UInt64(own + 1)), listen: [("127.0.0.1", Int(ports[own]))],
            roster: roster),
          log: Logger(label: "test"))
        let receiver = Receiver()
        pair.networks.append(network)
        pair.receivers.append(receiver)
        try await network.start(receiver: receiver)
      }
      return pair
    }

    /// Sends until the first message gets through: before, there is no connection.
    func awaitConnection() async throws {
      while receivers[1].received.withLock({ $0.isEmpty }) {
        networks[0].send([(to: NodeID(2), message: .forwardRefused(firstSequence: 0))])
        try await Task.sleep(for: .milliseconds(5))
      }
      try await Task.sleep(for: .milliseconds(50))
      receivers[1].received.withLock { $0 = [] }
    }

    func stop() async { for network in networks { await network.stop() } }
  }

  @Test(.timeLimit(.minutes(1))) func smallAndLargeMessagesKeepTheirOrder() async throws {
    let pair = try await Pair.start()
    try await pair.awaitConnection()
    var random = RandomSource(seed: 1)
    var sent: [PeerMessage] = []
    for number in 0..<2_000 {
      // One in ten is too large for the direct way, and what follows must not overtake it.
      let size = number % 10 == 9 ? 200_000 : Int(random.next() % 300)
      let message = PeerMessage.forward(
        payload: [UInt8](repeating: UInt8(number % 251), count: size))
      sent.append(message)
      pair.networks[0].send([(to: NodeID(2), message: message)])
      if number % 50 == 49 { try await Task.sleep(for: .milliseconds(5)) }
    }
    while pair.receivers[1].received.withLock({ $0.count }) < sent.count {
      try await Task.sleep(for: .milliseconds(5))
    }
    #expect(pair.receivers[1].received.withLock { $0 } == sent)
    await pair.stop()
  }

  @Test(.timeLimit(.minutes(1))) func aFullSocketLosesNothingFromTheMiddle() async throws {
    let pair = try await Pair.start()
    try await pair.awaitConnection()
    pair.receivers[1].delay.withLock { $0 = .milliseconds(20) }
    var sent: [PeerMessage] = []
    for number in 0..<1_000 {
      let message = PeerMessage.forward(
        payload: [UInt8](repeating: UInt8(number % 251), count: 20_000))
      sent.append(message)
      pair.networks[0].send([(to: NodeID(2), message: message)])
    }
    pair.receivers[1].delay.withLock { $0 = .zero }
    while pair.receivers[1].received.withLock({ $0.count }) < sent.count {
      try await Task.sleep(for: .milliseconds(5))
    }
    #expect(pair.receivers[1].received.withLock { $0 } == sent)
    await pair.stop()
  }

  @Test(.timeLimit(.minutes(1))) func aMemberThatGoesIsNoticed() async throws {
    let pair = try await Pair.start()
    try await pair.awaitConnection()
    await pair.networks[1].stop()
    while pair.receivers[0].lost.withLock({ $0 }) == 0 {
      pair.networks[0].send([(to: NodeID(2), message: .forwardRefused(firstSequence: 1))])
      try await Task.sleep(for: .milliseconds(5))
    }
    await pair.networks[0].stop()
  }

  /// One that the roster no longer names is neither heard nor left in the dark.
  @Test(.timeLimit(.minutes(1))) func aRemovedMemberIsToldSo() async throws {
    let pair = try await Pair.start()
    try await pair.awaitConnection()
    let roster = ClusterRoster(members: [pair.roster.members[1]], removed: [NodeID(1)])
    pair.networks[1].update(roster)
    while !pair.receivers[0].removed.withLock({ $0 }) {
      pair.networks[0].send([(to: NodeID(2), message: .forwardRefused(firstSequence: 1))])
      try await Task.sleep(for: .milliseconds(5))
    }
    #expect(pair.receivers[1].received.withLock { $0.isEmpty })
    await pair.stop()
  }

  /// Seed 11 of the simulator with members that come and go: one that was away while the others were replaced refused
  /// the new leader, of whom its log didn't know, and never caught up.
  @Test(.timeLimit(.minutes(1))) func aMemberThatIsNotKnownYetIsAnswered() async throws {
    let pair = try await Pair.start(isForgotten: true)
    try await pair.awaitConnection()
    while pair.receivers[0].received.withLock({ $0.isEmpty }) {
      pair.networks[1].send([(to: NodeID(1), message: .forwardRefused(firstSequence: 1))])
      try await Task.sleep(for: .milliseconds(5))
    }
    // When the log says that it was removed, that is what it hears.
    pair.networks[1].update(ClusterRoster(members: [pair.roster.members[1]], removed: [NodeID(1)]))
    while !pair.receivers[0].removed.withLock({ $0 }) {
      pair.networks[0].send([(to: NodeID(2), message: .forwardRefused(firstSequence: 1))])
      try await Task.sleep(for: .milliseconds(5))
    }
    await pair.stop()
  }

  /// A member that the roster names from now on, or names at another address, is dialled there.
  @Test(.timeLimit(.minutes(1))) func membersAreDialledWhereTheRosterSays() async throws {
    let pair = try await Pair.start()
    try await pair.awaitConnection()
    var roster = pair.roster
    roster.members[1].peerURLs = ["http://127.0.0.1:\(try Loopback.freePort())"]
    pair.networks[0].update(roster)
    try await Task.sleep(for: .milliseconds(100))
    pair.networks[0].send([(to: NodeID(2), message: .forwardRefused(firstSequence: 1))])
    try await Task.sleep(for: .milliseconds(100))
    #expect(pair.receivers[1].received.withLock { $0.isEmpty })
    pair.networks[0].update(pair.roster)
    try await pair.awaitConnection()
    await pair.stop()
  }

  @Test func whoeverJoinsLearnsWhoThereIs() async throws {
    let pair = try await Pair.start()
    let nobody = "http://127.0.0.1:\(try Loopback.freePort())"
    let answer = try await PeerInquiry.ask([nobody] + pair.roster.members[0].peerURLs)
    #expect(answer.cluster == 7 && answer.roster == pair.roster)
    await #expect(throws: PeerNetworkError.self) { try await PeerInquiry.ask([nobody]) }
    await pair.stop()
  }

  @Test func aMessageTooMuchForTheSocketIsCutWhereItWasFull() throws {
    var descriptors: [Int32] = [0, 0]
    #expect(makeSocketPair(&descriptors))
    let outlet = PeerOutlet(PeerMeter(NodeID(2)))
    outlet.open(descriptors[0])
    var whole: [UInt8] = []
    var rest: [UInt8] = []
    while rest.isEmpty {
      let message = PeerMessage.forward(payload: [UInt8](repeating: 1, count: 30_000))
      PeerFrame.append(message, to: &whole)
      switch outlet.send([message]) {
      case .sent: continue
      case .handOver: Issue.record("nothing was queued")
      case .handOverBytes(let bytes, _): rest = bytes
      }
    }
    // Everything behind it takes the event loop's way until that has caught up.
    guard case .handOver = outlet.send([.forwardRefused(firstSequence: 1)]) else {
      Issue.record("a message overtook another's rest")
      return
    }
    #expect(readAll(descriptors[1], count: whole.count - rest.count) + rest == whole)
    outlet.finishHandOver()
    outlet.finishHandOver()
    guard case .sent = outlet.send([.forwardRefused(firstSequence: 1)]) else {
      Issue.record("the direct way is free again")
      return
    }
  }
}
