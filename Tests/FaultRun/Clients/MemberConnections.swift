import EtcdClient
import EtcdProto
import Foundation
import SwiftProtobuf

/// One user's connections, one per member: each is made when it is first needed, and anew after it broke.
struct MemberConnections {
  private var transports: [Int: any CallTransport] = [:]
  private static let connect = HTTP2Transport.connector()

  /// The connection to a member.
  mutating func transport(to member: Int) async throws(StoreError) -> any CallTransport {
    if let transport = transports[member], transport.isUsable { return transport }
    let endpoint = StoreClient.Endpoint(host: MemberNetwork.address(member), port: 2379)
    let transport = try await Self.connect(endpoint, .milliseconds(700))
    transports[member] = transport
    return transport
  }

  /// Makes a call with one answer.
  mutating func call<Request: Message, Response: Message>(
    _ method: String, _ request: Request, to member: Int, timeout: Duration = .seconds(2)
  ) async throws(StoreError) -> Response {
    let transport = try await transport(to: member)
    do throws(StoreError) {
      let answer = try await transport.call(
        "/etcdserverpb.\(method)", Self.bytes(request), timeout: timeout)
      return try Self.message(answer)
    } catch {
      if error.code == .unavailable || error.code == .unknownOutcome { drop(member) }
      throw error
    }
  }

  mutating func drop(_ member: Int) { transports.removeValue(forKey: member)?.close() }

  mutating func close() {
    for transport in transports.values { transport.close() }
    transports = [:]
  }

  static func bytes(_ message: some Message) throws(StoreError) -> [UInt8] {
    do { return try message.serializedBytes() } catch {
      throw StoreError(.refused, "a request that can't be written: \(error)")
    }
  }

  static func message<Response: Message>(_ bytes: [UInt8]) throws(StoreError) -> Response {
    do { return try Response(serializedBytes: bytes) } catch {
      throw StoreError(.malformedAnswer, "an answer that can't be read: \(error)")
    }
  }
}
