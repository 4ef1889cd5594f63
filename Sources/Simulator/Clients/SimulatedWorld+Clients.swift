import EtcdWire
import MVCC
import Primitives
import Replica
import Verification

// What clients ask: a mix of everything that the store does, over few keys, so that they meet.

extension SimulatedWorld {
  static let keyCount: UInt64 = 8
  /// How long a client waits for an answer: a little longer than the server would.
  static let patience = Duration.seconds(15)

  mutating func startOperation(_ client: Int) throws {
    guard !clients[client].isStopped, clients[client].running == nil else { return }
    let candidates = present
    let member = candidates[Int(random.below(UInt64(candidates.count)))]
    guard members[member].running != nil else {
      // Connection refused: certainly not done.
      schedule.add(.client(client), at: delay(10_000_000, 100_000_000))
      return
    }
    let number = nextOperation
    nextOperation += 1
    let operation = drawOperation(client, number)
    var call: Int?
    if case .request(let request) = operation {
      call = history.begin(request, client: client, at: now.nanoseconds)
    }
    clients[client].running = SimulatedClient.Running(
      number: number, member: member, operation: operation, start: now, call: call,
      mustSee: newestKnown, leaderTerm: checks.newestLeaderTerm)
    schedule.add(.clientTimeout(client, operation: number), at: now.advanced(by: Self.patience))
    schedule.add(
      .arrival(client: client, operation: number, life: members[member].life),
      at: delay(20_000, 500_000))
  }

  /// The request reaches its member.
  mutating func submitOperation(_ client: Int, _ number: UInt64, life: Int) throws {
    guard let running = clients[client].running, running.number == number else { return }
    let member = running.member
    guard isAlive(member, life), let sink = members[member].running?.sink else {
      finish(client, .refused, isServed: false)
      return
    }
    trace("client \(client) asks \(name(member)): \(running.operation)")
    if isRefusedForSpace(running.operation, at: member) { return finish(client, .refused) }
    var commands: [UInt8] = []
    switch running.operation {
    case .request(.range(let range, let revision, let isSerializable)):
      guard isSerializable else {
        try pump(member) { $0.requestRead(token: number, sink: sink) }
        return
      }
      guard let view = members[member].running?.view else {
        return finish(client, .refused, isServed: false)
      }
      answerRead(client, view, .range(range, revision: revision, isSerializable: true))
      return
    case .request(let request):
      request.appendCommand(to: &commands)
    case .compact(let revision):
      var body: [UInt8] = []
      body.append(field: 1, int64: revision)
      body.withUnsafeBytes { CommandBatch.append(.compact, body: $0, to: &commands) }
    case .grant(let id, let seconds):
      var body: [UInt8] = []
      body.append(field: 1, int64: seconds)
      body.append(field: 2, int64: id.rawValue)
      body.withUnsafeBytes {
        CommandBatch.appendLeaseGrant(id: id, minimumSeconds: 1, body: $0, to: &commands)
      }
    case .renew(let id):
      try pump(member) { $0.queryLease(id, renew: true, token: number, sink: sink) }
      return
    }
    let batch = ProposalBatch(commands: commands, tokens: [number], sink: sink)
    try pump(member) { $0.submit(batch) }
  }

  private var isShortOfSpace: Bool {
    members.contains { $0.running?.status.restrictions.contains(.noSpace) == true }
  }

  /// A member that is out of space refuses what grows at its door, as `EtcdServer` does.
  private func isRefusedForSpace(_ operation: SimulatedClient.Operation, at member: Int) -> Bool {
    guard members[member].running?.status.restrictions.contains(.noSpace) == true else { return false }
    switch operation {
    case .request(let request): return request.hasPuts
    case .grant: return true
    case .compact, .renew: return false
    }
  }

  // MARK: Drawing

  private mutating func drawKey() -> [UInt8] { Array("key-\(random.below(Self.keyCount))".utf8) }

  private mutating func drawValue(_ number: UInt64) -> [UInt8] {
    Array("value \(number) ".utf8) + [UInt8](repeating: 7, count: Int(random.below(200)))
  }

  private mutating func drawRange() -> ModelRange {
    switch random.below(3) {
    case 0: return ModelRange(drawKey())
    case 1: return ModelRange([0], end: [0])
    default:
      let first = random.below(Self.keyCount)
      return ModelRange(
        Array("key-\(first)".utf8), end: Array("key-\(first + 1 + random.below(3))".utf8))
    }
  }

  private mutating func drawOperation(
    _ client: Int, _ number: UInt64
  ) -> SimulatedClient.Operation {
    // A lease wants to be kept alive.
    if let lease = clients[client].lease, !lease.isAbandoned, random.oneIn(3) {
      return .renew(lease.id)
    }
    switch random.below(100) {
    case 0..<34: return .request(drawPut(client, number))
    case 34..<42: return .request(.delete(drawRange()))
    case 42..<58: return .request(drawTransaction(client, number))
    case 58..<76: return .request(.range(drawRange()))
    case 76..<84: return .request(.range(drawRange(), isSerializable: true))
    case 84..<89:
      let back = Int64(random.below(20))
      return .request(.range(drawRange(), revision: max(1, newestKnown.rawValue - back)))
    case 89..<92:
      // Where there is a quota, history is to reach it.
      if swarm.bounds.quotaBytes != nil, !isShortOfSpace, !random.oneIn(12) {
        return .request(drawPut(client, number))
      }
      guard newestKnown > Revision(2) else { return .request(.range(drawRange())) }
      return .compact(max(1, newestKnown.rawValue - Int64(random.below(30))))
    default:
      guard let lease = clients[client].lease else {
        return .grant(LeaseID(Int64(number)), seconds: 2 + Int64(random.below(6)))
      }
      if random.oneIn(2) {
        clients[client].lease?.isAbandoned = true
        leases.mayEnd(lease.id)
        if random.oneIn(2) {
          clients[client].lease = nil
          return .request(.endLease(lease.id.rawValue))
        }
        // Left to run out.
        clients[client].lease = nil
      }
      return .request(.range(drawRange()))
    }
  }

  private mutating func drawPut(_ client: Int, _ number: UInt64) -> ModelRequest {
    var lease: Int64 = 0
    if let own = clients[client].lease, !own.isAbandoned, random.oneIn(2) {
      lease = own.id.rawValue
    }
    return .put(key: drawKey(), value: drawValue(number), lease: lease)
  }

  /// A transaction as programs use them: compare what was read, then change that and something else.
  private mutating func drawTransaction(_ client: Int, _ number: UInt64) -> ModelRequest {
    let key = drawKey()
    let other = Array("key-\((UInt64(key.last! - 48) + 1) % Self.keyCount)".utf8)
    let record = clients[client].seen[key]
    let relations: [ModelCompare.Relation] = [.equal, .equal, .notEqual, .greater, .less]
    let relation = relations[Int(random.below(UInt64(relations.count)))]
    let operand: ModelCompare.Operand =
      switch random.below(5) {
      case 0: .version(record?.version ?? 0)
      case 1: .createRevision(record?.createRevision ?? 0)
      case 2: .value(record?.value ?? [1])
      case 3: .lease(record?.lease ?? 0)
      default: .modRevision(record?.modRevision ?? 0)
      }
    var success: [ModelRequest] = [.put(key: key, value: drawValue(number))]
    if random.oneIn(2) { success.append(.delete(ModelRange(other))) }
    if random.oneIn(3) { success.append(.range(ModelRange([0], end: [0]))) }
    var failure: [ModelRequest] = [.range(ModelRange(key))]
    if random.oneIn(3) { failure.append(.put(key: other, value: drawValue(number))) }
    return .txn(
      [ModelCompare(key: key, relation, operand)], success: success, failure: failure)
  }
}
