import EtcdWire
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
  }

  /// The method asked; the number is its place in `LoadConnection.heads`.
  enum Kind: UInt8, Sendable { case put, get, update }

  /// A request that is on its way.
  struct Flight {
    var kind = Kind.put
    /// Verify what comes back against `variant`.
    var verifies = false
    /// The instant from which its latency counts, in nanoseconds.
    var since: UInt64 = 0
    var key: UInt64 = 0
    var variant = 0
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
    if case .verify(let list) = mode { UInt64(list.count) } else { nil }
  }

  /// Prepares the next request and hands its bytes to `send`.
  func issue(
    _ flight: inout Flight, _ send: (Kind, UnsafeRawBufferPointer) -> Bool
  ) -> Bool {
    flight.partial.removeAll(keepingCapacity: true)
    flight.verifies = false
    let position = first + issued * stride
    flight.variant = Int(random.next() % UInt64(ValueSource.variants))
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
    }
    if sent { issued += 1 }
    return sent
  }

  /// Looks at an answer's message.
  func received(
    _ message: UnsafeRawBufferPointer, for flight: Flight, recorder: inout Recorder
  ) {
    switch flight.kind {
    case .put: break
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
