import EtcdClient
import EtcdProto
import Foundation
import Primitives
import SwiftProtobuf
import Verification

/// A client that asks one thing after the other, of any member, and notes everything.
struct RecordingClient {
  let number: Int
  let members: Int
  let recorder: Recorder
  /// Time from one request to the next.
  let interval: Duration
  var random: RandomSource
  private var connections = MemberConnections()
  private var count: UInt64 = 0
  private var lease: Held?
  /// The records that it saw last, for predicates that hold more often than by chance.
  private var seen: [[UInt8]: ModelRecord] = [:]

  /// A lease that it holds.
  private struct Held {
    var id: Int64
    var seconds: Int64
    /// It is left to run out: nobody renews it.
    var isAbandoned = false
    var renewedAt: UInt64
  }

  static let keyCount: UInt64 = 12

  init(number: Int, members: Int, recorder: Recorder, interval: Duration, random: RandomSource) {
    self.number = number
    self.members = members
    self.recorder = recorder
    self.interval = interval
    self.random = random
  }

  /// Asks until the recorder stops.
  mutating func run() async {
    var next = ContinuousClock.now
    while !recorder.isStopping {
      count += 1
      await ask()
      next = max(next.advanced(by: interval), .now - interval)
      try? await Task.sleep(until: next, clock: .continuous)
    }
    connections.close()
  }

  private mutating func ask() async {
    let member = Int(random.below(UInt64(members)))
    if let lease, !lease.isAbandoned, Recorder.now() - lease.renewedAt > 1_000_000_000 {
      return await renew(lease, at: member)
    }
    switch random.below(1_000) {
    case 0..<330: await make(drawPut(), at: member)
    case 330..<390: await make(.delete(drawRange()), at: member)
    case 390..<590: await make(drawTransaction(), at: member)
    case 590..<790: await make(.range(drawRange()), at: member)
    case 790..<890: await make(.range(drawRange(), isSerializable: true), at: member)
    case 890..<930:
      let back = Int64(random.below(50))
      await make(.range(drawRange(), revision: max(1, recorder.newestRevision - back)), at: member)
    case 930..<933: await compact(at: member)
    default: await handleLease(at: member)
    }
  }

  // MARK: Asking

  private mutating func make(_ request: ModelRequest, at member: Int) async {
    let call = recorder.begin(request, client: number)
    do throws(StoreError) {
      let (response, revision) = try await send(request, to: member)
      if case .range(let records, _) = response {
        for record in records { seen[record.key] = record }
      }
      recorder.finish(call, .answered(response, revision: revision))
    } catch {
      recorder.finish(call, Self.outcome(error))
      recorder.note("\(error.code): \(error.message.prefix(60))")
      // A client whose member doesn't answer doesn't try again at once.
      try? await Task.sleep(for: .milliseconds(20))
    }
  }

  private mutating func send(
    _ request: ModelRequest, to member: Int
  ) async throws(StoreError) -> (ModelResponse, revision: Int64) {
    switch request {
    case .range:
      let answer: Etcdserverpb_RangeResponse = try await connections.call(
        "KV/Range", request.range, to: member)
      return (ModelResponse(answer), answer.header.revision)
    case .put:
      let answer: Etcdserverpb_PutResponse = try await connections.call(
        "KV/Put", request.put, to: member)
      return (ModelResponse(answer), answer.header.revision)
    case .delete:
      let answer: Etcdserverpb_DeleteRangeResponse = try await connections.call(
        "KV/DeleteRange", request.delete, to: member)
      return (ModelResponse(answer), answer.header.revision)
    case .txn:
      let answer: Etcdserverpb_TxnResponse = try await connections.call(
        "KV/Txn", request.transaction, to: member)
      guard let response = ModelResponse(answer) else {
        throw StoreError(.malformedAnswer, "a transaction's answer with an empty part")
      }
      return (response, answer.header.revision)
    case .endLease(let id):
      let answer: Etcdserverpb_LeaseRevokeResponse = try await connections.call(
        "Lease/LeaseRevoke", Etcdserverpb_LeaseRevokeRequest.with { $0.id = id }, to: member)
      return (.endLease, answer.header.revision)
    }
  }

  /// What an error means for a request: nothing happened only where the store (or the kernel, when it couldn't
  /// connect) says so in so many words.
  static func outcome(_ error: StoreError) -> ModelOutcome {
    switch error.code {
    case .unavailable, .compacted, .futureRevision, .leaseNotFound: .refused
    case .unknownOutcome, .exhausted, .malformedAnswer, .cancelled, .refused: .unknown
    }
  }

  private mutating func compact(at member: Int) async {
    let revision = recorder.newestRevision - 100 - Int64(random.below(400))
    guard revision > 1 else { return }
    recorder.mayCompact(revision)
    let request = Etcdserverpb_CompactionRequest.with { $0.revision = revision }
    do throws(StoreError) {
      let _: Etcdserverpb_CompactionResponse = try await connections.call(
        "KV/Compact", request, to: member)
    } catch { recorder.note("compaction, \(error.code): \(error.message.prefix(60))") }
  }

  // MARK: Leases

  private static func leaseKey(_ id: Int64) -> [UInt8] { Array("lease/\(id)".utf8) }

  private mutating func handleLease(at member: Int) async {
    guard let held = lease else { return await grant(at: member) }
    if held.isAbandoned {
      lease = nil
    } else if random.oneIn(6) {
      lease?.isAbandoned = true
    } else if random.oneIn(6) {
      lease = nil
      recorder.mayRevoke(held.id)
      await make(.endLease(held.id), at: member)
    } else {
      await make(
        .put(key: Self.leaseKey(held.id), value: drawValue(), lease: held.id), at: member)
    }
  }

  private mutating func grant(at member: Int) async {
    let id = Int64(number + 1) << 32 | Int64(count)
    let seconds = 2 + Int64(random.below(5))
    let start = Recorder.now()
    let request = Etcdserverpb_LeaseGrantRequest.with {
      $0.id = id
      $0.ttl = seconds
    }
    do throws(StoreError) {
      let answer: Etcdserverpb_LeaseGrantResponse = try await connections.call(
        "Lease/LeaseGrant", request, to: member)
      recorder.granted(id, seconds: answer.ttl, start: start)
      lease = Held(id: id, seconds: answer.ttl, renewedAt: start)
    } catch { recorder.note("grant, \(error.code): \(error.message.prefix(60))") }
  }

  private mutating func renew(_ held: Held, at member: Int) async {
    let start = Recorder.now()
    do throws(StoreError) {
      let stream = try await connections.transport(to: member).open(
        "/etcdserverpb.Lease/LeaseKeepAlive", timeout: .seconds(2))
      let watchdog = Task {
        if (try? await Task.sleep(for: .seconds(2))) != nil { stream.cancel() }
      }
      defer {
        watchdog.cancel()
        stream.cancel()
      }
      try await stream.send(
        MemberConnections.bytes(Etcdserverpb_LeaseKeepAliveRequest.with { $0.id = held.id }))
      guard let bytes = try await stream.next() else { return }
      let answer: Etcdserverpb_LeaseKeepAliveResponse = try MemberConnections.message(bytes)
      if answer.ttl > 0 {
        recorder.renewed(held.id, seconds: answer.ttl, start: start)
        lease?.renewedAt = start
      } else {
        recorder.denied(held.id)
        lease = nil
      }
    } catch {
      recorder.note("keep-alive, \(error.code): \(error.message.prefix(60))")
      connections.drop(member)
      if Recorder.now() - held.renewedAt > UInt64(held.seconds) * 1_000_000_000 { lease = nil }
    }
  }

  // MARK: Drawing

  private mutating func drawKey() -> [UInt8] {
    let number = random.below(Self.keyCount)
    return Array("key-\(number < 10 ? "0" : "")\(number)".utf8)
  }

  /// A value unlike any other.
  private mutating func drawValue() -> [UInt8] {
    Array("client \(number), \(count) ".utf8)
      + [UInt8](repeating: 46, count: Int(random.below(200)))
  }

  private mutating func drawRange() -> ModelRange {
    switch random.below(10) {
    case 0..<7: return ModelRange(drawKey())
    case 7..<9:
      let first = drawKey()
      return ModelRange(first, end: first.dropLast() + [first.last! + 3])
    default: return ModelRange(Array("key-".utf8), end: Array("key.".utf8))
    }
  }

  private mutating func drawPut() -> ModelRequest { .put(key: drawKey(), value: drawValue()) }

  /// A transaction as programs use them: compare what was read, then change that and something else.
  private mutating func drawTransaction() -> ModelRequest {
    let key = drawKey()
    let other = drawKey()
    let record = seen[key]
    let relation: ModelCompare.Relation =
      [.equal, .equal, .equal, .notEqual, .greater, .less][Int(random.below(6))]
    let operand: ModelCompare.Operand =
      switch random.below(4) {
      case 0: .version(record?.version ?? 0)
      case 1: .createRevision(record?.createRevision ?? 0)
      case 2: .value(record?.value ?? [1])
      default: .modRevision(record?.modRevision ?? 0)
      }
    var success: [ModelRequest] = [.put(key: key, value: drawValue())]
    if other != key, random.oneIn(2) { success.append(.delete(ModelRange(other))) }
    if random.oneIn(4) { success.append(.range(ModelRange(Array("key-".utf8), end: Array("key.".utf8)))) }
    var failure: [ModelRequest] = [.range(ModelRange(key))]
    if other != key, random.oneIn(3) { failure.append(.put(key: other, value: drawValue())) }
    return .txn([ModelCompare(key: key, relation, operand)], success: success, failure: failure)
  }
}
