import EtcdProto
import HTTP2
import SwiftProtobuf

// grpc.health.v1. As in etcd there is one entry, without a name, for the whole server.

extension ServerLoop {
  private static let serving = {
    var response = Grpc_Health_V1_HealthCheckResponse()
    response.status = .serving
    return response
  }()

  func health(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod,
    _ message: UnsafeRawBufferPointer
  ) throws {
    if method == .healthList {
      var response = Grpc_Health_V1_HealthListResponse()
      response.statuses[""] = Self.serving
      return respond(connection, stream, method, response)
    }
    let request = try Grpc_Health_V1_HealthCheckRequest(serializedBytes: Array(message))
    guard request.service.isEmpty else {
      return fail(connection, stream, method, GRPCStatus(.notFound, "unknown service"))
    }
    respond(connection, stream, method, Self.serving)
  }

  /// Answers a health watch: its first answer is the only one, since what serves goes on to.
  func watchHealth(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ message: UnsafeRawBufferPointer
  ) {
    do {
      let request = try Grpc_Health_V1_HealthCheckRequest(serializedBytes: Array(message))
      var response = Self.serving
      if !request.service.isEmpty { response.status = .serviceUnknown }
      let bytes: [UInt8] = try response.serializedBytes()
      bytes.withUnsafeBytes { _ = connection.send(stream, $0) }
      noteUnflushed(connection)
    } catch {
      fail(
        connection, stream, .healthWatch,
        GRPCStatus(.internal, "grpc: error unmarshalling request"))
    }
  }
}
