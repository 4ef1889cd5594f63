import ArgumentParser
import EtcdWire
import HTTP2
import NIOCore
import NIOPosix

/// A server that does nothing: Martlet's own HTTP/2 and gRPC, with an answer that is always the same.
///
/// What a generator reaches against it is the ceiling for the same generator against a real store.
struct Noop: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Serves gets and puts without a store behind them: the ceiling of what can be measured.")

  @Option(name: .long, help: "The port on 127.0.0.1.")
  var port = 2_379

  @Option(name: .long, help: "Bytes of the value that every get finds.")
  var valueSize = 256

  func run() throws {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let answers = NoopAnswers(valueSize: valueSize)
    let listener = try ServerBootstrap(group: group)
      .serverChannelOption(ChannelOptions.backlog, value: 1_024)
      .serverChannelOption(ChannelOptions.socketOption(.so_reuseaddr), value: 1)
      .childChannelOption(ChannelOptions.socketOption(.tcp_nodelay), value: 1)
      .childChannelOption(
        ChannelOptions.recvAllocator,
        value: AdaptiveRecvByteBufferAllocator(minimum: 1_024, initial: 2_048, maximum: 262_144)
      )
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let connection = GRPCServerConnection(
            router: NoopAnswers.router, delegate: answers, maxMessageSize: 2 << 20)
          try channel.pipeline.syncOperations.addHandler(connection.makeHandler())
        }
      }
      .bind(host: "127.0.0.1", port: port).wait()
    print("ready on 127.0.0.1:\(port)")
    try listener.closeFuture.wait()
  }
}

/// Answers every unary call of the key-value service at once. Immutable, so any loop may use it.
final class NoopAnswers: GRPCServerDelegate, Sendable {
  static let router = GRPCRouter([
    .init("/etcdserverpb.KV/Range"), .init("/etcdserverpb.KV/Put"),
  ])

  /// By method.
  private let answers: [[UInt8]]

  init(valueSize: Int) {
    let header = ResponseHeader(clusterID: 1, memberID: 1, revision: 1_000_000, raftTerm: 2)
    let value = [UInt8](repeating: 0x2A, count: valueSize)
    var record: [UInt8] = []
    Array("a-key-of-24-bytes-------".utf8).withUnsafeBytes { key in
      value.withUnsafeBytes { value in
        KeyValue(key: key, createRevision: 2, modRevision: 2, version: 1, value: value, lease: 0)
          .append(to: &record)
      }
    }
    var found = RangeResponse()
    found.header = header
    var range = found.encoded()
    record.withUnsafeBytes { RangeResponse.append(encodedKeyValue: $0, to: &range) }
    RangeResponse.appendTail(more: false, count: 1, to: &range)
    var put = PutResponse()
    put.header = header
    answers = [range, put.encoded()]
  }

  func grpc(
    _ connection: GRPCServerConnection, unary method: Int, stream: StreamID,
    message: UnsafeRawBufferPointer
  ) {
    answers[method].withUnsafeBytes { connection.respond(stream, $0) }
  }
  func grpc(
    _ connection: GRPCServerConnection, opened method: Int, stream: StreamID, headers: HeaderBlock
  ) {}
  func grpc(
    _ connection: GRPCServerConnection, received message: UnsafeRawBufferPointer, method: Int,
    stream: StreamID
  ) {}
  func grpc(_ connection: GRPCServerConnection, halfClosed stream: StreamID, method: Int) {}
  func grpc(_ connection: GRPCServerConnection, cancelled stream: StreamID, method: Int) {}
  func grpc(_ connection: GRPCServerConnection, writable stream: StreamID, method: Int) {}
  func grpcReadComplete(_ connection: GRPCServerConnection) {}
  func grpcClosed(_ connection: GRPCServerConnection) {}
}
