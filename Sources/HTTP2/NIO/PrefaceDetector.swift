import NIOCore

/// Tells HTTP/2 clients with prior knowledge from HTTP/1.1 clients by their first bytes, on one port.
///
/// An HTTP/2 client starts with a fixed preface of 24 bytes that is no valid HTTP/1.1 request. The
/// detector holds what arrives until the bytes either are that preface or differ from it, has the
/// pipeline set up accordingly, hands the bytes on and leaves.
public final class PrefaceDetector: ChannelInboundHandler, RemovableChannelHandler {
  public typealias InboundIn = ByteBuffer
  public typealias InboundOut = ByteBuffer

  public enum Detected: Sendable { case http1, http2 }

  private let install: (any Channel, Detected) throws -> Void
  private var held = ByteBuffer()
  private var isDecided = false

  /// `install` adds the handlers for what was detected (through `channel.pipeline.syncOperations`), on
  /// the channel's event loop.
  public init(install: @escaping (any Channel, Detected) throws -> Void) {
    self.install = install
  }

  public func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var buffer = unwrapInboundIn(data)
    if isDecided {
      context.fireChannelRead(wrapInboundOut(buffer))
      return
    }
    held.writeBuffer(&buffer)
    guard let detected = Self.detect(held.readableBytesView) else { return }
    isDecided = true
    do {
      try install(context.channel, detected)
    } catch {
      context.fireErrorCaught(error)
      context.close(promise: nil)
      return
    }
    context.fireChannelRead(wrapInboundOut(held))
    held = ByteBuffer()
    context.pipeline.syncOperations.removeHandler(self, promise: nil)
  }

  /// What the first bytes say; nil while they may still become either.
  static func detect(_ bytes: some Collection<UInt8>) -> Detected? {
    let preface = HTTP2Connection.preface
    var offset = 0
    for byte in bytes {
      if offset == preface.utf8CodeUnitCount { break }
      if byte != preface.utf8Start[offset] { return .http1 }
      offset += 1
    }
    return offset == preface.utf8CodeUnitCount ? .http2 : nil
  }
}
