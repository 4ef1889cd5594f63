import NIOCore
import Synchronization

/// Bytes in both directions over a channel: an upgraded connection, a pipe, a socket.
///
/// The channel is read only when somebody waits in ``read()``, and ``write(_:)`` returns when the kernel
/// has taken the bytes, so two streams that are copied into each other hold each other back and nothing
/// piles up here. On a WebSocket each piece is one whole message, in both directions.
///
/// One task may read and one may write at a time.
public final class ByteStream: Sendable {
  private struct State {
    var pieces: [[UInt8]] = []
    var end: Result<Void, any Error>?
    var reader: CheckedContinuation<[UInt8]?, any Error>?
  }
  private let channel: any Channel
  private let state = Mutex(State())

  private init(_ channel: any Channel) { self.channel = channel }

  /// Takes a channel over: adds a handler at the end of its pipeline. On the channel's event loop.
  ///
  /// The channel should have `autoRead` off by the time it becomes active; if it isn't, what arrives
  /// before is kept.
  public static func attach(to channel: any Channel) throws -> ByteStream {
    let stream = ByteStream(channel)
    try channel.pipeline.syncOperations.addHandler(Handler(stream))
    channel.setOption(.autoRead, value: false).whenComplete { _ in }
    return stream
  }

  /// Makes the streams of channels that a bootstrap opens, before anything can arrive on them: what comes
  /// while a pipeline is empty is lost, an early end included.
  public final class Opening: Sendable {
    private let made = Mutex<ByteStream?>(nil)
    public init() {}

    /// For the bootstrap's `channelInitializer`.
    public func initialize(_ channel: any Channel) -> EventLoopFuture<Void> {
      channel.eventLoop.makeCompletedFuture {
        let stream = try ByteStream.attach(to: channel)
        made.withLock { $0 = stream }
      }
    }

    /// The stream, once the channel is open.
    public var stream: ByteStream {
      get throws {
        guard let stream = made.withLock({ $0 }) else {
          throw HTTPServerError(.connectionClosed, "the channel was not opened")
        }
        return stream
      }
    }
  }

  /// The next bytes; nil at the end.
  ///
  /// - Throws: what broke the channel; `CancellationError` if the task is cancelled, which closes the
  ///   channel.
  public func read() async throws -> [UInt8]? {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let ready: Result<[UInt8]?, any Error>? = state.withLock { state in
          if !state.pieces.isEmpty { return .success(state.pieces.removeFirst()) }
          if let end = state.end { return end.map { nil } }
          state.reader = continuation
          return nil
        }
        if let ready { continuation.resume(with: ready) } else { channel.read() }
      }
    } onCancel: {
      finish(.failure(CancellationError()))
      close()
    }
  }

  /// Sends bytes, on a WebSocket as one message.
  ///
  /// - Throws: if the channel is closed.
  public func write(_ bytes: [UInt8]) async throws {
    try await channel.writeAndFlush(channel.allocator.buffer(bytes: bytes)).get()
  }

  /// Ends this side's direction. A connection that can't be half open ends as a whole.
  public func finishWriting() { channel.close(mode: .output, promise: nil) }

  public func close() { channel.close(promise: nil) }

  /// Whether the other side has ended its direction, or everything has ended.
  public var hasEnded: Bool { state.withLock { $0.end != nil } }

  fileprivate var isWaiting: Bool { state.withLock { $0.reader != nil } }

  fileprivate func add(_ piece: [UInt8]) {
    let reader = state.withLock { state in
      defer { state.reader = nil }
      if state.reader == nil { state.pieces.append(piece) }
      return state.reader
    }
    reader?.resume(returning: piece)
  }

  fileprivate func finish(_ end: Result<Void, any Error>) {
    let (reader, end) = state.withLock { state in
      let known = state.end ?? end
      state.end = known
      defer { state.reader = nil }
      return (state.reader, known)
    }
    reader?.resume(with: end.map { nil })
  }

  private final class Handler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let stream: ByteStream
    init(_ stream: ByteStream) { self.stream = stream }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      stream.add(Array(unwrapInboundIn(data).readableBytesView))
    }

    func channelReadComplete(context: ChannelHandlerContext) {
      // A read can come to nothing here: half a TLS record, half a message.
      if stream.isWaiting { context.read() }
      context.fireChannelReadComplete()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
      if case .inputClosed? = event as? ChannelEvent { stream.finish(.success(())) }
      context.fireUserInboundEventTriggered(event)
    }

    func channelInactive(context: ChannelHandlerContext) {
      stream.finish(.success(()))
      context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
      stream.finish(.failure(error))
      context.close(promise: nil)
    }
  }
}

extension ByteStream {
  /// Copies both directions until one of them ends, then closes both.
  public static func join(_ a: ByteStream, _ b: ByteStream) async {
    await withTaskGroup(of: Void.self) { group in
      for (from, to) in [(a, b), (b, a)] {
        group.addTask {
          do {
            while let piece = try await from.read() { try await to.write(piece) }
          } catch {
            // The other direction learns of it when both close.
          }
        }
      }
      await group.next()
      a.close()
      b.close()
    }
  }
}
