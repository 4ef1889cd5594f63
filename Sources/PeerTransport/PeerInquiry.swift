import NIOCore
import NIOPosix
import Primitives
import Replica

/// Asks a running cluster who its members are: the first step of a member that joins.
public enum PeerInquiry {
  /// Asks the member that listens at one of `urls`, one after the other, until one answers.
  ///
  /// - Throws: `PeerNetworkError` that names every URL and why it gave no answer.
  public static func ask(
    _ urls: [String], security: PeerNetwork.Security? = nil
  ) async throws -> (cluster: UInt64, roster: ClusterRoster) {
    var reasons: [String] = []
    for url in urls {
      guard let address = PeerAddress(url) else {
        reasons.append("\(url): not a URL of a scheme, host and port")
        continue
      }
      do {
        return try await ask(address, security)
      } catch {
        reasons.append("\(url): \(error)")
      }
    }
    throw PeerNetworkError(
      "no member of the cluster told who its members are (\(reasons.joined(separator: "; ")))")
  }

  private static func ask(
    _ address: PeerAddress, _ security: PeerNetwork.Security?
  ) async throws -> (cluster: UInt64, roster: ClusterRoster) {
    let group = MultiThreadedEventLoopGroup.singleton
    let promise = group.any().makePromise(of: [UInt8].self)
    do {
      let channel = try await ClientBootstrap(group: group)
        .connectTimeout(Limits.connectTimeout)
        .channelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            _ = try security?.dialled(channel, address.host, address.port)
            try channel.pipeline.syncOperations.addHandler(InquiryHandler(promise))
          }
        }
        .connect(host: address.host, port: address.port).get()
      channel.eventLoop.scheduleTask(in: Limits.connectTimeout) { channel.close(promise: nil) }
    } catch {
      promise.fail(error)
    }
    let bytes = try await promise.futureResult.get()
    return try bytes.withUnsafeBytes { bytes in
      var reader = ByteReader(bytes)
      let cluster: UInt64 = try reader.read()
      let length: UInt32 = try reader.read()
      guard length <= Limits.rosterBytes, Int(length) == reader.remaining else {
        throw PeerNetworkError("an answer of another length than it claims")
      }
      return (cluster, try ClusterRoster(decoding: try reader.readBytes(Int(length))))
    }
  }
}

/// Says hello and collects the answer until the other end hangs up.
private final class InquiryHandler: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  private let promise: EventLoopPromise<[UInt8]>
  private var received: [UInt8] = []

  init(_ promise: EventLoopPromise<[UInt8]>) { self.promise = promise }

  func channelActive(context: ChannelHandlerContext) {
    var buffer = context.channel.allocator.buffer(capacity: PeerHello.size)
    PeerHello.inquiry.write(into: &buffer)
    context.writeAndFlush(NIOAny(buffer), promise: nil)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    received += unwrapInboundIn(data).readableBytesView
    if received.count > Int(Limits.rosterBytes) + 13 { context.close(promise: nil) }
  }

  func channelInactive(context: ChannelHandlerContext) {
    guard let status = received.first, status == 0 else {
      let reason = received.isEmpty ? "no answer" : "refused"
      return promise.fail(PeerNetworkError(reason))
    }
    promise.succeed(Array(received.dropFirst()))
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    context.close(promise: nil)
  }
}
