import Glibc
import Logging
import NIOCore
import NIOPosix
import Primitives
import Replica

/// The connection to one other member: dialled, redialled, and written to. Lives on one event loop.
final class PeerLink {
  private enum State {
    case idle
    case connecting
    case open(any Channel)
    case stopped
  }

  let id: NodeID
  /// The same connection, for threads other than the event loop's.
  let outlet: PeerOutlet
  private let meter: PeerMeter
  private var sampling: RepeatedTask?
  private let settings: PeerNetwork.Settings
  let address: PeerAddress
  private let loop: any EventLoop
  private let directory: PeerDirectory
  private weak var receiver: (any PeerReceiver)?
  private let log: Logger
  private var state = State.idle
  private var retryDelay = Limits.shortestRetry
  private var buffer = ByteBuffer()
  private var scratch: [UInt8] = []
  /// Bytes handed to the channel that it has not written yet.
  private var unwritten = 0
  /// A duplicate of the socket that is being greeted, for the outlet; owned here until then.
  private var duplicateDescriptor: Int32?
  /// The last failure that was logged, so that a member that stays down is mentioned once.
  private var loggedFailure: String?

  init(
    settings: PeerNetwork.Settings, peer: NodeID, address: PeerAddress, meter: PeerMeter,
    loop: any EventLoop, directory: PeerDirectory, receiver: any PeerReceiver, log: Logger
  ) {
    id = peer
    self.directory = directory
    outlet = PeerOutlet(meter)
    self.meter = meter
    self.address = address
    self.settings = settings
    self.loop = loop
    self.receiver = receiver
    self.log = log
  }

  func enqueue(_ message: PeerMessage) {
    guard case .open = state, unwritten + buffer.readableBytes < Limits.queuedBytes else {
      return meter.dropped()
    }
    PeerFrame.write(message, into: &buffer, scratch: &scratch)
  }

  func flush() {
    guard case .open(let channel) = state, buffer.readableBytes > 0 else { return }
    let bytes = buffer
    let count = bytes.readableBytes
    unwritten += count
    meter.sent(count)
    buffer = ByteBuffer()
    buffer.reserveCapacity(min(count, 1 << 20))
    let bound = NIOLoopBound(self, eventLoop: loop)
    outlet.beginWrite()
    channel.writeAndFlush(bytes).whenComplete { [outlet] _ in
      bound.value.unwritten -= count
      outlet.finishHandOver()
    }
  }

  /// Writes what the outlet could not put into the socket.
  func enqueue(rest bytes: [UInt8], of connection: UInt64) {
    // On another connection the rest of a message would be noise.
    guard case .open = state, outlet.isCurrent(connection) else { return }
    buffer.writeBytes(bytes)
  }

  func connect() {
    guard case .idle = state else { return }
    state = .connecting
    let bound = NIOLoopBound(self, eventLoop: loop)
    NIOThreadPool.singleton.runIfActive(eventLoop: loop) { [address] in
      try PeerSocket.connect(
        host: address.host, port: address.port, timeout: Limits.connectTimeout)
    }.whenComplete { result in
      switch result {
      case .success(let descriptor): bound.value.adopt(descriptor)
      case .failure(let error): bound.value.failed("\(error)")
      }
    }
  }

  /// Puts a connected socket on the event loop, and says hello on it.
  private func adopt(_ descriptor: Int32) {
    let bound = NIOLoopBound(self, eventLoop: loop)
    let hello = PeerHello(
      cluster: settings.cluster, from: settings.member, to: id,
      urls: directory.urls(of: settings.member))
    let duplicate = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
    duplicateDescriptor = duplicate >= 0 ? duplicate : nil
    let (security, host, port) = (settings.security, address.host, address.port)
    ClientBootstrap(group: loop)
      .channelOption(.tcpOption(.tcp_nodelay), value: 1)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          // What goes past the pipeline would go in the clear.
          if try security?.dialled(channel, host, port) == true { bound.value.dropDuplicate() }
          try channel.pipeline.syncOperations.addHandler(
            PeerDialler(hello: hello) { event in bound.value.handle(event, on: channel) })
        }
      }
      .withConnectedSocket(descriptor)
      .whenFailure { error in bound.value.failed("\(error)") }
  }

  func stop() {
    ended()
    outlet.close()
    if case .open(let channel) = state { channel.close(promise: nil) }
    state = .stopped
  }

  private func handle(_ event: PeerDialler.Event, on channel: any Channel) {
    switch event {
    case .accepted:
      guard case .connecting = state else {
        channel.close(promise: nil)
        return
      }
      state = .open(channel)
      outlet.open(duplicateDescriptor)
      duplicateDescriptor = nil
      retryDelay = Limits.shortestRetry
      loggedFailure = nil
      meter.connected(true)
      sampling = loop.scheduleRepeatedTask(
        initialDelay: Limits.roundTripInterval, delay: Limits.roundTripInterval
      ) { [meter] _ in meter.sample(channel) }
      unwritten = 0
      buffer.clear()
      log.info("connected to peer", metadata: ["peer": "\(id)", "address": "\(address)"])
    case .refused(let code, let reason):
      failed("refused: \(reason)")
      if code == PeerRefusal.Code.removedMember.rawValue { receiver?.removedFromCluster() }
    case .closed:
      let wasOpen = if case .open = state { true } else { false }
      failed("connection closed")
      if wasOpen { receiver?.connectionLost(to: id) }
    }
  }

  private func dropDuplicate() {
    if let duplicateDescriptor { close(duplicateDescriptor) }
    duplicateDescriptor = nil
  }

  private func ended() {
    meter.connected(false)
    sampling?.cancel()
    sampling = nil
  }

  private func failed(_ reason: String) {
    ended()
    outlet.close()
    dropDuplicate()
    switch state {
    case .stopped, .idle: return
    case .connecting, .open: state = .idle
    }
    if loggedFailure != reason {
      loggedFailure = reason
      log.warning(
        "no connection to peer; retrying",
        metadata: ["peer": "\(id)", "address": "\(address)", "reason": "\(reason)"])
    }
    let jitter = Int64.random(in: 0...(retryDelay.nanoseconds / 2))
    let bound = NIOLoopBound(self, eventLoop: loop)
    loop.scheduleTask(in: .nanoseconds(retryDelay.nanoseconds / 2 + jitter)) {
      bound.value.connect()
    }
    retryDelay = min(retryDelay * 2, Limits.longestRetry)
  }
}

/// The dialling end: says hello, waits for the answer, then only writes.
final class PeerDialler: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  enum Event {
    case accepted
    case refused(code: UInt8, String)
    case closed
  }

  private let hello: PeerHello
  private let report: (Event) -> Void
  private var received = ByteBuffer()
  private var answered = false
  private var timeout: Scheduled<Void>?

  init(hello: PeerHello, report: @escaping (Event) -> Void) {
    self.hello = hello
    self.report = report
  }

  func channelActive(context: ChannelHandlerContext) {
    var buffer = context.channel.allocator.buffer(capacity: PeerHello.size)
    hello.write(into: &buffer)
    context.writeAndFlush(NIOAny(buffer), promise: nil)
    timeout = context.eventLoop.assumeIsolated().scheduleTask(in: Limits.connectTimeout) {
      context.close(promise: nil)
    }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !answered else { return }
    var bytes = unwrapInboundIn(data)
    received.writeBuffer(&bytes)
    guard let status = received.getInteger(at: received.readerIndex, as: UInt8.self) else { return }
    if status == 0 {
      answered = true
      timeout?.cancel()
      report(.accepted)
      return
    }
    guard
      let length = received.getInteger(
        at: received.readerIndex + 1, endianness: .little, as: UInt16.self),
      let reason = received.getString(at: received.readerIndex + 3, length: Int(length))
    else { return }
    answered = true
    report(.refused(code: status, reason))
    context.close(promise: nil)
  }

  func channelInactive(context: ChannelHandlerContext) {
    timeout?.cancel()
    report(.closed)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    context.close(promise: nil)
  }
}

/// The accepting end: checks the hello, then only reads.
final class PeerAcceptor: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private let settings: PeerNetwork.Settings
  private let directory: PeerDirectory
  private let receiver: any PeerReceiver
  private let meter: @Sendable (NodeID) -> PeerMeter
  private let log: Logger
  /// Called when a caller was let in that isn't a member yet.
  private let introduced: () -> Void
  private var received: ByteBuffer?
  private var peer: NodeID?
  private var messages: [PeerMessage] = []

  init(
    settings: PeerNetwork.Settings, directory: PeerDirectory, receiver: any PeerReceiver,
    meter: @escaping @Sendable (NodeID) -> PeerMeter, log: Logger,
    introduced: @escaping () -> Void
  ) {
    self.meter = meter
    self.introduced = introduced
    self.settings = settings
    self.directory = directory
    self.receiver = receiver
    self.log = log
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var bytes = unwrapInboundIn(data)
    if let peer { meter(peer).received(bytes.readableBytes) }
    if received == nil {
      received = bytes
    } else {
      received!.writeBuffer(&bytes)
    }
    do {
      if peer == nil {
        guard let hello = try PeerHello.read(from: &received!) else { return }
        if hello.isInquiry { return answerInquiry(context) }
        try check(hello)
        peer = hello.from
        var answer = context.channel.allocator.buffer(capacity: 1)
        answer.writeInteger(UInt8(0))
        context.writeAndFlush(wrapOutboundOut(answer), promise: nil)
      }
      while let message = try PeerFrame.read(from: &received!) { messages.append(message) }
      if received!.readableBytes == 0 {
        received = nil
      } else {
        received!.discardReadBytes()
      }
    } catch let refusal as PeerRefusal {
      refuse(refusal, context: context)
    } catch {
      log.error(
        "bad bytes from a peer; closing the connection",
        metadata: ["peer": "\(peer.map(\.description) ?? "unknown")", "error": "\(error)"])
      context.close(promise: nil)
    }
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    guard let peer, !messages.isEmpty else { return }
    guard !directory.isRemoved(peer) else {
      messages = []
      context.close(promise: nil)
      return
    }
    receiver.receive(messages, from: peer)
    messages.removeAll(keepingCapacity: true)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    context.close(promise: nil)
  }

  private func check(_ hello: PeerHello) throws(PeerRefusal) {
    guard hello.cluster == settings.cluster else {
      throw PeerRefusal(
        .foreignCluster,
        "cluster ID mismatch: the caller is of cluster \(String(hello.cluster, radix: 16)), this "
          + "member of \(String(settings.cluster, radix: 16)); check --initial-cluster and "
          + "--initial-cluster-token, or whether the data directory belongs to another cluster")
    }
    guard hello.to == settings.member else {
      throw PeerRefusal(
        .wrongMember, "this is member \(settings.member), not \(hello.to); check the peer URLs")
    }
    guard !directory.isRemoved(hello.from) else {
      throw PeerRefusal(
        .removedMember, "member \(hello.from) has been removed from this cluster")
    }
    if directory.isMember(hello.from) { return }
    guard directory.introduce(hello.from, urls: hello.urls) else {
      throw PeerRefusal(.unknownMember, "member \(hello.from) is not in this cluster")
    }
    log.info(
      "answering a member that the log doesn't name yet",
      metadata: ["peer": "\(hello.from)", "address": "\(hello.urls.joined(separator: ","))"])
    introduced()
  }

  /// Tells a member that is about to join who there is, and hangs up.
  private func answerInquiry(_ context: ChannelHandlerContext) {
    received?.clear()
    let roster = directory.roster.encode()
    var answer = context.channel.allocator.buffer(capacity: 13 + roster.count)
    answer.writeInteger(UInt8(0))
    answer.writeInteger(settings.cluster, endianness: .little)
    answer.writeInteger(UInt32(roster.count), endianness: .little)
    answer.writeBytes(roster)
    let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
    context.writeAndFlush(wrapOutboundOut(answer)).whenComplete { _ in
      bound.value.close(promise: nil)
    }
  }

  private func refuse(_ refusal: PeerRefusal, context: ChannelHandlerContext) {
    log.error(
      "refused a peer connection",
      metadata: [
        "remote": "\(context.channel.remoteAddress?.description ?? "unknown")",
        "reason": "\(refusal)",
      ])
    var answer = context.channel.allocator.buffer(capacity: 64)
    answer.writeInteger(refusal.code.rawValue)
    let reason = Array(refusal.reason.utf8.prefix(1024))
    answer.writeInteger(UInt16(reason.count), endianness: .little)
    answer.writeBytes(reason)
    context.writeAndFlush(wrapOutboundOut(answer), promise: nil)
    context.close(promise: nil)
  }
}
