import NIOCore
import NIOWebSocket

/// Turns WebSocket frames (RFC 6455) into whole messages for a ``ByteStream``, and back.
///
/// Stands above NIO's frame decoder, encoder and aggregator. Text and binary messages are not told
/// apart; ping is answered here, close ends the stream.
final class WebSocketMessages: ChannelDuplexHandler {
  typealias InboundIn = WebSocketFrame
  typealias InboundOut = ByteBuffer
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = WebSocketFrame

  private var hasSentClose = false

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let frame = unwrapInboundIn(data)
    switch frame.opcode {
    case .binary, .text, .continuation:
      context.fireChannelRead(wrapInboundOut(frame.unmaskedData))
    case .ping:
      context.writeAndFlush(
        wrapOutboundOut(WebSocketFrame(fin: true, opcode: .pong, data: frame.unmaskedData)),
        promise: nil)
    case .connectionClose:
      // The answer repeats the code.
      sendClose(context, frame.unmaskedData)
      context.close(promise: nil)
    default: break
    }
  }

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    let frame = WebSocketFrame(fin: true, opcode: .binary, data: unwrapOutboundIn(data))
    context.write(wrapOutboundOut(frame), promise: promise)
  }

  func close(
    context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?
  ) {
    // 1000, a normal end: a client takes a connection that just goes for a failure.
    var code = context.channel.allocator.buffer(capacity: 2)
    code.writeInteger(UInt16(1_000))
    sendClose(context, code)
    context.close(mode: .all, promise: promise)
  }

  private func sendClose(_ context: ChannelHandlerContext, _ data: ByteBuffer) {
    if hasSentClose || !context.channel.isActive { return }
    hasSentClose = true
    context.writeAndFlush(
      wrapOutboundOut(WebSocketFrame(fin: true, opcode: .connectionClose, data: data)),
      promise: nil)
  }
}
