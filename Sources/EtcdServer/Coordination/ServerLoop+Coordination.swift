import EtcdProto
import EtcdWire
import HTTP2
import MVCC
import NIOCore
import Primitives
import SwiftProtobuf

// The lock and election services. A call that waits stands in `coordinationCalls`, by its client's stream, or in
// `abandonedCalls` while it cleans up after a client that left.

extension ServerLoop {
  func coordinate(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod,
    _ message: UnsafeRawBufferPointer
  ) {
    guard coordinationCalls.count + abandonedCalls.count < EtcdServerLimits.coordinationCalls else {
      return fail(connection, stream, method, .tooManyRequests)
    }
    let bytes = Array(message)
    let call: CoordinationCall
    do {
      switch method {
      case .lock:
        let request = try V3lockpb_LockRequest(serializedBytes: bytes)
        call = LockCall(
          self, connection, stream, method, name: Array(request.name), value: [],
          lease: request.lease)
      case .unlock:
        call = UnlockCall(self, connection, stream, try V3lockpb_UnlockRequest(serializedBytes: bytes))
      case .campaign:
        let request = try V3electionpb_CampaignRequest(serializedBytes: bytes)
        call = CampaignCall(
          self, connection, stream, method, name: Array(request.name), value: Array(request.value),
          lease: request.lease)
      case .proclaim:
        call = ProclaimCall(
          self, connection, stream, try V3electionpb_ProclaimRequest(serializedBytes: bytes))
      case .resign:
        call = ResignCall(
          self, connection, stream, try V3electionpb_ResignRequest(serializedBytes: bytes))
      case .observe:
        call = ObserveCall(
          self, connection, stream, try V3electionpb_LeaderRequest(serializedBytes: bytes))
      default:
        call = LeaderCall(
          self, connection, stream, try V3electionpb_LeaderRequest(serializedBytes: bytes))
      }
    } catch {
      return fail(
        connection, stream, method, GRPCStatus(.internal, "grpc: error unmarshalling request"))
    }
    coordinationCalls[StreamKey(connection, stream)] = call
    call.start()
  }

  /// The client of a call left. Whatever the call has to take away is taken away.
  func abandonCoordination(_ key: StreamKey) {
    guard let call = coordinationCalls.removeValue(forKey: key) else { return }
    abandonedCalls[ObjectIdentifier(call)] = call
    call.clientLeft()
  }

  func abandonCoordination(of connection: GRPCServerConnection) {
    let identifier = ObjectIdentifier(connection)
    for key in coordinationCalls.keys where key.connection == identifier {
      abandonCoordination(key)
    }
  }

  /// The call is over.
  func forget(_ call: CoordinationCall) {
    if abandonedCalls.removeValue(forKey: ObjectIdentifier(call)) == nil {
      coordinationCalls[StreamKey(call.connection, call.stream)] = nil
    }
  }

  /// Gives up the calls whose time is up.
  func expireCoordination(at now: Instant) {
    for (key, call) in coordinationCalls {
      guard let deadline = call.deadline, deadline <= now else { continue }
      abandonCoordination(key)
      fail(
        call.connection, call.stream, call.method,
        GRPCStatus(.deadlineExceeded, "context deadline exceeded"))
    }
  }
}
