import EtcdWire
import MVCC
import Primitives
import Replica

/// Takes a member's answers; the world fetches them after each pump.
// The world is single-threaded: the core delivers and the world takes on one thread.
final class SimulatedSink: ReplySink, @unchecked Sendable {
  private var replies: [Reply] = []
  func deliver(_ replies: [Reply]) { self.replies += replies }
  func take() -> [Reply] {
    defer { replies = [] }
    return replies
  }
}

/// A client that asks one thing after the other, of any member.
struct SimulatedClient {
  enum Operation {
    case put(AcknowledgedPutRequest)
    case read(key: [UInt8])
  }

  struct AcknowledgedPutRequest {
    var key: [UInt8]
    var value: [UInt8]
  }

  struct Running {
    var number: UInt64
    var member: Int
    var operation: Operation
    /// The newest revision that any client knew of when this began: what it must see.
    var mustSee: Revision
  }

  let number: Int
  var running: Running?
  var completed = 0
  var isStopped = false
}

extension SimulatedWorld {
  static let keyCount: UInt64 = 8

  mutating func startOperation(_ client: Int) throws {
    guard !clients[client].isStopped, clients[client].running == nil else { return }
    let member = Int(random.below(UInt64(members.count)))
    guard members[member].running != nil else {
      schedule.add(.client(client), at: delay(10_000_000, 100_000_000))
      return
    }
    let number = nextOperation
    nextOperation += 1
    let key = Array("key-\(random.below(Self.keyCount))".utf8)
    let isPut = random.oneIn(2)
    let value =
      Array("value \(number) ".utf8) + [UInt8](repeating: 7, count: Int(random.below(200)))
    clients[client].running = SimulatedClient.Running(
      number: number, member: member,
      operation: isPut ? .put(.init(key: key, value: value)) : .read(key: key),
      mustSee: newestKnown)
    schedule.add(.clientTimeout(client, operation: number), at: now.advanced(by: .seconds(15)))
    let sink = members[member].running!.sink
    if isPut {
      var commands: [UInt8] = []
      key.withUnsafeBytes { keyBytes in
        value.withUnsafeBytes { valueBytes in
          var request = PutRequest()
          request.key = keyBytes
          request.value = valueBytes
          var body: [UInt8] = []
          request.append(to: &body)
          body.withUnsafeBytes { CommandBatch.append(.put, body: $0, to: &commands) }
        }
      }
      let batch = ProposalBatch(commands: commands, tokens: [number], sink: sink)
      try pump(member) { $0.submit(batch) }
    } else {
      try pump(member) { $0.requestRead(token: number, sink: sink) }
    }
  }

  mutating func receive(_ reply: Reply, from member: Int) throws {
    guard
      let client = clients.firstIndex(where: {
        $0.running?.number == reply.token && $0.running?.member == member
      }), let running = clients[client].running
    else { return }
    switch (reply.outcome, running.operation) {
    case (.applied(let result, _), .put(let put)):
      guard case .empty = result.body else {
        throw Violation("a put was answered with \(result.body)", now)
      }
      guard let view = members[member].running?.view, view.revision >= result.revision else {
        throw Violation(
          "a put was answered with revision \(result.revision), which its member has not published",
          now)
      }
      guard result.revision > running.mustSee else {
        throw Violation(
          "a put got revision \(result.revision), but \(running.mustSee) was known before it began",
          now)
      }
      try checks.acknowledged(
        .init(key: put.key, value: put.value, revision: result.revision), at: now)
      newestKnown = max(newestKnown, result.revision)
      finish(client)
    case (.readable(let view, _), .read):
      guard view.revision >= running.mustSee else {
        throw Violation(
          "a stale read: it saw revision \(view.revision), but \(running.mustSee) was known before it "
            + "began", now)
      }
      newestKnown = max(newestKnown, view.revision)
      finish(client)
    case (.failed, _):
      // Its outcome may be unknown; the client asks something else.
      report.failed += 1
      clients[client].running = nil
      schedule.add(.client(client), at: delay(10_000_000, 300_000_000))
    default:
      throw Violation("an answer of the wrong kind: \(reply.outcome)", now)
    }
  }

  private mutating func finish(_ client: Int) {
    clients[client].running = nil
    clients[client].completed += 1
    schedule.add(.client(client), at: delay(5_000_000, 150_000_000))
  }

  /// The member went away, or never answered.
  mutating func giveUp(_ client: Int, _ operation: UInt64) {
    guard clients[client].running?.number == operation else { return }
    report.unknown += 1
    clients[client].running = nil
    schedule.add(.client(client), at: delay(5_000_000, 150_000_000))
  }

  mutating func abandonOperations(at member: Int) {
    for client in clients.indices where clients[client].running?.member == member {
      giveUp(client, clients[client].running!.number)
    }
  }
}
