import EtcdWire
import HTTP2
import Primitives

/// What one connection asks for, and what it makes of the answers.
///
/// Confined to its connection's event loop.
final class Workload {
  enum Mode: Sendable {
    /// Put keys, sequential or random.
    case put(random: Bool)
    /// Get keys, sequential or random.
    case get(random: Bool)
    /// Random gets, and puts for the rest of 1000.
    case mixed(getsPerThousand: UInt64)
    /// Update objects as Kubernetes does: put if the revision is the one last seen, else get.
    case update
    /// Get the keys of a record and compare the values.
    case verify([Acknowledgement])
    /// Grant leases 1 to `keyCount`, once.
    case grant
    /// Grant a lease, put a key with it, and so on.
    case attach
    /// Renew leases 1 to `keyCount`, each place on a stream of its own.
    case keepAlive
    /// Read every key there is, again and again.
    case scan(serializable: Bool)
  }

  /// The method asked; the number is its place in `methods`.
  enum Kind: UInt8, Sendable, CaseIterable {
    case put, get, update, grant, keepAlive

    var path: String {
      switch self {
      case .put: "/etcdserverpb.KV/Put"
      case .get: "/etcdserverpb.KV/Range"
      case .update: "/etcdserverpb.KV/Txn"
      case .grant: "/etcdserverpb.Lease/LeaseGrant"
      case .keepAlive: "/etcdserverpb.Lease/LeaseKeepAlive"
      }
    }
    /// Whether one stream carries request after request.
    var isStreaming: Bool { self == .keepAlive }
  }

  /// A request that is on its way.
  struct Flight {
    var kind = Kind.put
    /// Verify what comes back against `variant`.
    var verifies = false
    /// The instant from which its latency counts, in nanoseconds.
    var since: UInt64 = 0
    var key: UInt64 = 0
    var variant = 0
    /// The stream that stays open between requests, if the kind is streaming.
    var stream: StreamID?
    /// The start of an answer whose end has not arrived.
    var partial: [UInt8] = []
  }

  private let mode: Mode
  private let keyCount: UInt64
  /// This connection takes every `stride`-th key, from `first` on.
  private let first: UInt64
  private let stride: UInt64
  private let base: UInt64
  private var templates: RequestTemplates
  private var random: RandomSource
  private var issued: UInt64 = 0
  /// The revision last seen of each object of this connection; 0 where it doesn't exist yet.
  private var modRevisions: [Int64] = []

  /// Everything that a workload is made of; can be handed to its event loop.
  struct Plan: Sendable {
    var mode: Mode
    var templates: RequestTemplates
    /// How many keys the whole run touches.
    var keyCount: UInt64
    /// This connection's number, of `connections`.
    var connection: Int
    var connections: Int
    var seed: UInt64
    /// Where sequential puts start, so that a warm-up doesn't take the keys of what it precedes.
    var base: UInt64 = 0
  }

  init(_ plan: Plan) {
    mode = plan.mode
    templates = plan.templates
    keyCount = max(plan.keyCount, UInt64(plan.connections))
    first = UInt64(plan.connection)
    stride = UInt64(plan.connections)
    base = plan.base
    random = RandomSource(seed: plan.seed &+ UInt64(plan.connection))
    if case .update = mode {
      modRevisions = [Int64](repeating: 0, count: Int(keyCount / stride))
    }
  }

  /// Takes over what an earlier phase of the same kind learned about the objects.
  func adopt(_ earlier: Workload) {
    if modRevisions.count == earlier.modRevisions.count { modRevisions = earlier.modRevisions }
  }

  /// How many requests there are by nature; nil if without end.
  var naturalEnd: UInt64? {
    switch mode {
    case .verify(let list): UInt64(list.count)
    case .grant: keyCount / stride + (first < keyCount % stride ? 1 : 0)
    default: nil
    }
  }

  /// Prepares the next request and hands its bytes to `send`.
  func issue(
    _ flight: inout Flight, _ send: (Kind, UnsafeRawBufferPointer) -> Bool
  ) -> Bool {
    flight.partial.removeAll(keepingCapacity: true)
    flight.verifies = false
    let position = first + issued * stride
    flight.variant = Int(random.below(UInt64(templates.variantCount)))
    let sent: Bool
    switch mode {
    case .put(let isRandom):
      flight.kind = .put
      flight.key =
        isRandom ? random.below(keyCount) : (base &+ position) % templates.keys.capacity
      sent = templates.withPut(key: flight.key, variant: flight.variant) { send(.put, $0) }
    case .get(let isRandom):
      flight.kind = .get
      flight.key = isRandom ? random.below(keyCount) : position % keyCount
      sent = templates.withGet(key: flight.key) { send(.get, $0) }
    case .mixed(let getsPerThousand):
      flight.key = random.below(keyCount)
      if random.below(1000) < getsPerThousand {
        flight.kind = .get
        sent = templates.withGet(key: flight.key) { send(.get, $0) }
      } else {
        flight.kind = .put
        sent = templates.withPut(key: flight.key, variant: flight.variant) { send(.put, $0) }
      }
    case .update:
      flight.kind = .update
      let object = Int(issued % UInt64(modRevisions.count))
      flight.key = first + UInt64(object) * stride
      sent = templates.withUpdate(
        key: flight.key, variant: flight.variant, modRevision: modRevisions[object]
      ) { send(.update, $0) }
    case .verify(let list):
      let expected = list[Int(issued)]
      flight.kind = .get
      flight.verifies = true
      flight.key = expected.key
      flight.variant = Int(expected.variant)
      sent = templates.withGet(key: flight.key) { send(.get, $0) }
    case .grant:
      flight.kind = .grant
      sent = templates.withGrant(lease: Int64(position + 1)) { send(.grant, $0) }
    case .attach:
      let turn = issued / 2
      if issued % 2 == 0 {
        flight.kind = .grant
        sent = templates.withGrant(lease: lease(turn)) { send(.grant, $0) }
      } else {
        flight.kind = .put
        let attached = turn < Self.attachLag ? 0 : lease(turn - Self.attachLag)
        sent = templates.withPut(key: position, variant: flight.variant, lease: attached) {
          send(.put, $0)
        }
      }
    case .keepAlive:
      flight.kind = .keepAlive
      sent = templates.withKeepAlive(lease: Int64(random.below(keyCount)) + 1) {
        send(.keepAlive, $0)
      }
    case .scan(let serializable):
      flight.kind = .get
      sent = templates.withScan(serializable: serializable) { send(.get, $0) }
    }
    if sent { issued += 1 }
    return sent
  }

  /// Grants between a lease's own and its put: servers take the requests of a connection in any order.
  private static let attachLag: UInt64 = 1_024

  /// The id of this connection's lease `turn`; a warm-up's are others, and so are those that keep-alives renew.
  private func lease(_ turn: UInt64) -> Int64 {
    Int64(truncatingIfNeeded: (first + turn * stride + 1) | (base == 0 ? 1 << 47 : 1 << 48))
  }

  /// Looks at an answer's message.
  func received(
    _ message: UnsafeRawBufferPointer, for flight: Flight, recorder: inout Recorder
  ) {
    switch flight.kind {
    case .put: break
    case .grant:
      guard let response = try? LeaseGrantResponse(message), response.timeToLive > 0 else {
        recorder.record(error: "a lease that was not granted")
        return
      }
    case .keepAlive:
      guard let response = try? LeaseKeepAliveResponse(message), response.timeToLive > 0 else {
        recorder.recordMiss()
        return
      }
    case .get:
      guard let response = try? RangeResponse(message) else {
        recorder.record(error: "an answer that is not a RangeResponse")
        return
      }
      guard let record = response.keyValues.first else {
        recorder.recordMiss()
        return
      }
      if flight.verifies, !templates.matches(record.value, variant: flight.variant) {
        recorder.record(error: "a value other than the one acknowledged")
      }
    case .update: receivedUpdate(message, for: flight, recorder: &recorder)
    }
  }

  private func receivedUpdate(
    _ message: UnsafeRawBufferPointer, for flight: Flight, recorder: inout Recorder
  ) {
    guard let response = try? TxnResponse(message) else {
      recorder.record(error: "an answer that is not a TxnResponse")
      return
    }
    let object = Int((flight.key - first) / stride)
    if response.succeeded {
      modRevisions[object] = response.header?.revision ?? 0
      return
    }
    recorder.recordConflict()
    if case .range(let range)? = response.responses.first?.response {
      modRevisions[object] = range.keyValues.first?.modRevision ?? 0
    }
  }
}

extension Workload.Mode {
  /// What one of several connections has to do: a list is divided among them.
  func share(of connection: Int, connections: Int) -> Workload.Mode {
    guard case .verify(let list) = self else { return self }
    return .verify(
      stride(from: connection, to: list.count, by: connections).map { list[$0] })
  }
}
