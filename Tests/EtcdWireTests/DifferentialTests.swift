import EtcdProto
import EtcdWire
import Primitives
import SwiftProtobuf
import Testing

/// One message type, read and written by `EtcdWire` and by generated code.
struct Subject: Sendable, CustomTestStringConvertible {
  let testDescription: String
  let schema: Schema
  /// Reads with `EtcdWire`, writes with `EtcdWire`, then has the oracle write what it reads of that.
  let throughWire: @Sendable ([UInt8]) throws -> [UInt8]
  /// Has the oracle read and write; nil if it refuses the bytes.
  let throughOracle: @Sendable ([UInt8]) -> [UInt8]?

  init<Wire: WireMessage, Oracle: SwiftProtobuf.Message>(
    _ wire: Wire.Type, _ oracle: Oracle.Type, _ schema: Schema,
    normalize: @escaping @Sendable (inout Oracle) -> Void = { _ in }
  ) {
    testDescription = Oracle.protoMessageName
    self.schema = schema
    throughWire = { bytes in
      let rewritten = try bytes.withUnsafeBytes { try Wire($0).encoded() }
      var message = try Oracle(serializedBytes: rewritten)
      normalize(&message)
      return try message.serializedBytes()
    }
    throughOracle = { bytes in
      var options = BinaryDecodingOptions()
      options.discardUnknownFields = true
      guard var message = try? Oracle(serializedBytes: bytes, options: options) else { return nil }
      normalize(&message)
      return try? message.serializedBytes()
    }
  }

  static let all: [Subject] = [
    Subject(KeyValue.self, Mvccpb_KeyValue.self, .keyValue),
    Subject(Event.self, Mvccpb_Event.self, .event),
    Subject(ResponseHeader.self, Etcdserverpb_ResponseHeader.self, .header),
    Subject(RangeRequest.self, Etcdserverpb_RangeRequest.self, .range),
    Subject(RangeResponse.self, Etcdserverpb_RangeResponse.self, .rangeResponse),
    Subject(PutRequest.self, Etcdserverpb_PutRequest.self, .put),
    Subject(PutResponse.self, Etcdserverpb_PutResponse.self, .putResponse),
    Subject(DeleteRangeRequest.self, Etcdserverpb_DeleteRangeRequest.self, .deleteRange),
    Subject(
      DeleteRangeResponse.self, Etcdserverpb_DeleteRangeResponse.self, .deleteRangeResponse),
    Subject(Compare.self, Etcdserverpb_Compare.self, .compare),
    Subject(RequestOp.self, Etcdserverpb_RequestOp.self, .requestOp(depth: 2)),
    Subject(ResponseOp.self, Etcdserverpb_ResponseOp.self, .responseOp(depth: 2)),
    Subject(TxnRequest.self, Etcdserverpb_TxnRequest.self, .txn),
    Subject(TxnResponse.self, Etcdserverpb_TxnResponse.self, .txnResponse),
    Subject(CompactionRequest.self, Etcdserverpb_CompactionRequest.self, .compaction),
    Subject(CompactionResponse.self, Etcdserverpb_CompactionResponse.self, .headerOnly),
    Subject(WatchRequest.self, Etcdserverpb_WatchRequest.self, .watch) { request in
      if case .createRequest(var create) = request.requestUnion {
        create.filters = knownFilters(create.filters)
        request.requestUnion = .createRequest(create)
      }
    },
    Subject(WatchCreateRequest.self, Etcdserverpb_WatchCreateRequest.self, .watchCreate) {
      $0.filters = knownFilters($0.filters)
    },
    Subject(WatchResponse.self, Etcdserverpb_WatchResponse.self, .watchResponse),
    Subject(LeaseGrantRequest.self, Etcdserverpb_LeaseGrantRequest.self, .leaseGrant),
    Subject(LeaseGrantResponse.self, Etcdserverpb_LeaseGrantResponse.self, .leaseGrantResponse),
    Subject(LeaseRevokeRequest.self, Etcdserverpb_LeaseRevokeRequest.self, .leaseID),
    Subject(LeaseRevokeResponse.self, Etcdserverpb_LeaseRevokeResponse.self, .headerOnly),
    Subject(LeaseKeepAliveRequest.self, Etcdserverpb_LeaseKeepAliveRequest.self, .leaseID),
    Subject(
      LeaseKeepAliveResponse.self, Etcdserverpb_LeaseKeepAliveResponse.self,
      .leaseKeepAliveResponse),
    Subject(
      LeaseTimeToLiveRequest.self, Etcdserverpb_LeaseTimeToLiveRequest.self, .leaseTimeToLive),
    Subject(
      LeaseTimeToLiveResponse.self, Etcdserverpb_LeaseTimeToLiveResponse.self,
      .leaseTimeToLiveResponse),
    Subject(LeaseLeasesRequest.self, Etcdserverpb_LeaseLeasesRequest.self, Schema()),
    Subject(
      LeaseLeasesResponse.self, Etcdserverpb_LeaseLeasesResponse.self, .leaseLeasesResponse),
    Subject(LeaseStatus.self, Etcdserverpb_LeaseStatus.self, .leaseID),
    Subject(LeaseCheckpoint.self, Etcdserverpb_LeaseCheckpoint.self, .leaseCheckpoint),
    Subject(
      LeaseCheckpointRequest.self, Etcdserverpb_LeaseCheckpointRequest.self, .leaseCheckpoints),
  ]

  /// `EtcdWire` keeps a watch's filters as a set and drops those it doesn't know.
  private static func knownFilters(
    _ filters: [Etcdserverpb_WatchCreateRequest.FilterType]
  ) -> [Etcdserverpb_WatchCreateRequest.FilterType] {
    [.noput, .nodelete].filter(filters.contains)
  }
}

@Suite("EtcdWire reads and writes what generated code reads and writes")
struct DifferentialTests {
  @Test("Any valid encoding means the same to both", arguments: Subject.all)
  func validEncodings(of subject: Subject) throws {
    var messages = RandomMessage(random: RandomSource(seed: 1))
    for _ in 0..<2000 {
      let bytes = messages.encoding(of: subject.schema)
      let expected = try #require(subject.throughOracle(bytes), "the generator made \(bytes)")
      do {
        let actual = try subject.throughWire(bytes)
        try #require(actual == expected, "\(bytes)")
      } catch WireError.splitMessage {
        // Valid protobuf that no encoder writes; refused deliberately.
      }
    }
  }

  @Test("Damaged bytes are refused by both, or mean the same", arguments: Subject.all)
  func damagedEncodings(of subject: Subject) throws {
    var messages = RandomMessage(random: RandomSource(seed: 2))
    for _ in 0..<4000 {
      let bytes = messages.mutated(messages.encoding(of: subject.schema))
      let expected = subject.throughOracle(bytes)
      do {
        let actual = try subject.throughWire(bytes)
        // EtcdWire passes texts on as bytes; only the oracle refuses those that are not UTF-8.
        if expected == nil && subject.schema.hasText { continue }
        try #require(actual == expected, "\(bytes)")
      } catch let error as WireError {
        switch error {
        case .truncated, .malformedTag:
          try #require(expected == nil, "only EtcdWire refuses \(bytes): \(error)")
        case .malformedVarint, .wrongWireType, .groupRefused, .splitMessage, .nestedTooDeep:
          break  // Stricter than protobuf, as `FieldReader` explains.
        }
      } catch {
        try #require(subject.schema.hasText, "the oracle refuses what EtcdWire wrote: \(bytes)")
      }
    }
  }

  @Test("Random bytes never trap", arguments: Subject.all)
  func randomBytes(into subject: Subject) {
    var random = RandomSource(seed: 3)
    for _ in 0..<4000 {
      let bytes = (0..<random.below(40)).map { _ in
        // Small bytes are more often tags and lengths.
        UInt8(truncatingIfNeeded: random.next()) >> UInt8(random.below(5))
      }
      _ = try? subject.throughWire(bytes)
    }
  }
}
