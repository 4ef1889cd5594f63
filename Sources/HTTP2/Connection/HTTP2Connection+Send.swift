import Primitives

// Frames out. Everything here appends to `output`; the glue sends it.

extension HTTP2Connection {
  // MARK: The connection's own frames

  /// Writes the first bytes: the client's preface, our SETTINGS, and the connection's window.
  public func start() {
    if role == .client {
      output.append(
        UnsafeRawBufferPointer(
          start: Self.preface.utf8Start, count: Self.preface.utf8CodeUnitCount))
    }
    var settings: [UInt8] = []
    func add(_ setting: UInt16, _ value: Int) {
      withUnsafeBytes(of: setting.bigEndian) { settings.append(contentsOf: $0) }
      withUnsafeBytes(of: UInt32(clamping: value).bigEndian) { settings.append(contentsOf: $0) }
    }
    add(SettingID.headerTableSize, limits.headerTableSize)
    add(SettingID.initialWindowSize, limits.streamReceiveWindow)
    add(SettingID.maxFrameSize, limits.maxFrameSize)
    add(SettingID.maxHeaderListSize, limits.maxHeaderListSize)
    if role == .client {
      add(SettingID.enablePush, 0)
    } else {
      add(SettingID.maxConcurrentStreams, limits.maxConcurrentStreams)
    }
    settings.withUnsafeBytes { writeFrame(FrameType.settings, flags: 0, stream: 0, $0) }
    unacknowledgedSettings += 1
    let growth = limits.connectionReceiveWindow - Self.defaultWindow
    if growth > 0 {
      writeWindowUpdate(0, growth)
      receiveWindow += growth
    }
  }

  /// Sends a PING whose answer comes as `.pong`.
  public func ping(_ opaque: UInt64) {
    var bigEndian = opaque.bigEndian
    withUnsafeBytes(of: &bigEndian) { writeFrame(FrameType.ping, flags: 0, stream: 0, $0) }
  }

  /// Asks the peer to open no more streams, and lets those that are open end.
  ///
  /// A server first names the highest stream there is and PINGs: streams that were already under way
  /// are still served, and the answer to the PING brings the real last one.
  public func drain() {
    guard !isDraining, phase == .open else { return }
    isDraining = true
    writeGoAway(lastStream: StreamID.last.rawValue, .noError, debug: "")
    ping(Self.drainPing)
  }

  func finishDraining() {
    guard isDraining, goAwayLimit == nil else { return }
    goAwayLimit = lastPeerStream
    writeGoAway(lastStream: lastPeerStream, .noError, debug: "")
  }

  /// Looks after silence: PINGs a quiet peer, and says false when one hasn't answered in time.
  public func keepAlive() -> Bool {
    if let sent = keepAliveSentAt {
      return now.nanoseconds(since: sent) < limits.keepAliveTimeout.wholeNanoseconds
    }
    if now.nanoseconds(since: lastReceived) >= limits.keepAliveInterval.wholeNanoseconds {
      keepAliveSentAt = now
      ping(Self.keepAlivePing)
    }
    return true
  }

  /// The glue has received bytes at `now`: the peer lives.
  public func noteReceived(at now: Instant) {
    self.now = now
    lastReceived = now
    if keepAliveSentAt != nil { keepAliveSentAt = nil }
  }

  // MARK: Streams

  /// Opens a stream with a request's head (clients). Nil if the peer takes none now: see
  /// `canOpenStream`.
  public func openStream(
    _ head: HeaderTemplate, extra: [HeaderField] = [], endStream: Bool, tag: UInt64 = 0
  ) -> StreamID? {
    guard canOpenStream else { return nil }
    let id = nextOwnStream
    nextOwnStream += 2
    var stream = HTTP2Stream(
      id: id, sendWindow: peerInitialWindow, receiveWindow: limits.streamReceiveWindow)
    stream.tag = tag
    stream.headSent = true
    stream.sendClosed = endStream
    stream.endRequested = endStream
    _ = streams.insert(stream)
    writeBlock(id, head, extra: extra, endStream: endStream)
    return StreamID(id)
  }

  /// Sends a response's head (servers). False if the stream is gone or its head was sent.
  @discardableResult
  public func sendHeaders(
    _ stream: StreamID, _ head: HeaderTemplate, extra: [HeaderField] = [], endStream: Bool = false
  ) -> Bool {
    let slot = streams.find(stream.rawValue)
    guard slot >= 0, !streams.slots[slot].headSent, phase == .open else { return false }
    streams.slots[slot].headSent = true
    writeBlock(stream.rawValue, head, extra: extra, endStream: endStream)
    if endStream {
      streams.slots[slot].endRequested = true
      streams.slots[slot].sendClosed = true
      closeIfDone(slot)
    }
    return true
  }

  /// Sends a piece of the body. What the windows don't allow now waits and goes out by itself; see
  /// `queuedBytes(on:)` and `.writable`. False if the stream is gone or ended.
  @discardableResult
  public func sendData(
    _ stream: StreamID, _ data: UnsafeRawBufferPointer, endStream: Bool = false
  ) -> Bool {
    let slot = streams.find(stream.rawValue)
    guard slot >= 0, streams.slots[slot].headSent, !streams.slots[slot].endRequested, phase == .open
    else { return false }
    streams.slots[slot].endRequested = endStream
    var sent = 0
    if streams.slots[slot].queue == nil {
      sent = writeData(slot, data, endStream: endStream)
      if sent == data.count {
        if endStream {
          streams.slots[slot].sendClosed = true
          closeIfDone(slot)
        }
        return true
      }
    }
    enqueue(slot, UnsafeRawBufferPointer(rebasing: data[sent...]))
    return true
  }

  /// Ends the body with trailers, behind whatever still waits. False if the stream is gone or ended.
  @discardableResult
  public func sendTrailers(_ stream: StreamID, _ trailers: HeaderTemplate) -> Bool {
    let slot = streams.find(stream.rawValue)
    guard slot >= 0, streams.slots[slot].headSent, !streams.slots[slot].endRequested, phase == .open
    else { return false }
    streams.slots[slot].endRequested = true
    if let queue = streams.slots[slot].queue {
      queue.trailers = trailers
      return true
    }
    writeBlock(stream.rawValue, trailers, extra: [], endStream: true)
    streams.slots[slot].sendClosed = true
    closeIfDone(slot)
    return true
  }

  /// A whole response in one go: head, one DATA of `prefix` and `body`, trailers. The short way for
  /// the small answers that nearly all are; falls back to the long one where windows or sizes demand.
  @discardableResult
  public func sendUnary(
    _ stream: StreamID, head: HeaderTemplate, prefix: UnsafeRawBufferPointer,
    body: UnsafeRawBufferPointer, trailers: HeaderTemplate
  ) -> Bool {
    let slot = streams.find(stream.rawValue)
    guard slot >= 0, !streams.slots[slot].headSent, phase == .open else { return false }
    let length = prefix.count &+ body.count
    guard length <= min(sendWindow, streams.slots[slot].sendWindow), length <= peerMaxFrameSize,
      output.count < limits.outputTarget
    else {
      sendHeaders(stream, head)
      sendData(stream, prefix)
      sendData(stream, body)
      return sendTrailers(stream, trailers)
    }
    writeBlock(stream.rawValue, head, extra: [], endStream: false)
    let start = output.reserve(FrameHeader.size &+ length)
    FrameHeader(length: length, type: FrameType.data, flags: 0, stream: stream.rawValue)
      .write(to: start)
    if let from = prefix.baseAddress {
      (start + FrameHeader.size).copyMemory(from: from, byteCount: prefix.count)
    }
    if let from = body.baseAddress {
      (start + FrameHeader.size + prefix.count).copyMemory(from: from, byteCount: body.count)
    }
    output.advance(FrameHeader.size &+ length)
    sendWindow &-= length
    streams.slots[slot].sendWindow &-= length
    writeBlock(stream.rawValue, trailers, extra: [], endStream: true)
    streams.slots[slot].headSent = true
    streams.slots[slot].endRequested = true
    streams.slots[slot].sendClosed = true
    closeIfDone(slot)
    return true
  }

  /// Ends the stream abruptly. What waited on it is dropped; no event follows.
  public func reset(_ stream: StreamID, _ code: HTTP2ErrorCode) {
    let slot = streams.find(stream.rawValue)
    guard slot >= 0, phase == .open else { return }
    removeStream(slot)
    writeReset(stream.rawValue, code)
  }

  /// A server's answer is out before the request has ended: tells the client to stop sending it.
  /// Source: RFC 9113, section 8.1.
  func stopRequest(_ slot: Int) {
    let id = streams.slots[slot].id
    removeStream(slot)
    writeReset(id, .noError)
  }

  // MARK: Closing streams

  /// Forgets a stream that both sides have ended.
  @inline(__always)
  func closeIfDone(_ slot: Int) {
    guard streams.slots[slot].sendClosed else { return }
    if streams.slots[slot].receiveClosed {
      streams.remove(streams.slots[slot].id)
      prematureResetBudget.earn(1)
    } else if role == .server {
      stopRequest(slot)
    }
  }

  func removeStream(_ slot: Int) {
    queuedBytes -= streams.slots[slot].queue?.count ?? 0
    streams.remove(streams.slots[slot].id)
  }

  // MARK: Frames

  private func enqueue(_ slot: Int, _ data: UnsafeRawBufferPointer) {
    if streams.slots[slot].queue == nil { streams.slots[slot].queue = SendQueue() }
    streams.slots[slot].queue?.append(data)
    queuedBytes += data.count
    markReady(slot)
    if queuedBytes + output.count > limits.maxQueuedBytes {
      let error = HTTP2Error(.enhanceYourCalm, "the peer does not read what it asked for")
      pendingEvents.append((fail(error), 0))
    }
  }

  /// Frames as much as may go out now and returns how much that was.
  private func writeData(_ slot: Int, _ data: UnsafeRawBufferPointer, endStream: Bool) -> Int {
    var sent = 0
    while sent < data.count || (data.isEmpty && endStream) {
      let room = min(
        data.count - sent, sendWindow, streams.slots[slot].sendWindow, peerMaxFrameSize)
      if room <= 0, !data.isEmpty { break }
      if output.count >= limits.outputTarget, !data.isEmpty { break }
      let isLast = endStream && sent + room == data.count
      FrameHeader(
        length: room, type: FrameType.data, flags: isLast ? FrameFlags.endStream : 0,
        stream: streams.slots[slot].id
      ).write(to: output.reserve(FrameHeader.size + room))
      output.advance(FrameHeader.size)
      output.append(UnsafeRawBufferPointer(rebasing: data[sent..<(sent + room)]))
      sent += room
      sendWindow -= room
      streams.slots[slot].sendWindow -= room
      controlBudget.earn(limits.controlFramesEarnedPerFrameSent)
      pings.forgives = true
      if data.isEmpty { break }
    }
    return sent
  }

  /// Encodes a header block into the output, split into CONTINUATIONs where it must be.
  @inline(__always)
  func writeBlock(_ id: UInt32, _ template: HeaderTemplate, extra: [HeaderField], endStream: Bool) {
    let frameStart = output.count
    _ = output.reserve(FrameHeader.size)
    output.advance(FrameHeader.size)
    encoder.beginBlock(output)
    encoder.encode(template, into: output)
    if !extra.isEmpty { for field in extra { encoder.encode(field, into: output) } }
    let length = output.count &- frameStart &- FrameHeader.size
    let endFlag = endStream ? FrameFlags.endStream : 0
    if length <= peerMaxFrameSize {
      FrameHeader(
        length: length, type: FrameType.headers, flags: endFlag | FrameFlags.endHeaders, stream: id
      ).write(to: output.base + frameStart)
    } else {
      splitBlock(id, from: frameStart, endFlag: endFlag)
    }
    controlBudget.earn(limits.controlFramesEarnedPerFrameSent)
    pings.forgives = true
  }

  private func splitBlock(_ id: UInt32, from frameStart: Int, endFlag: UInt8) {
    let block = Array(output.bytes[(frameStart + FrameHeader.size)...])
    output.truncate(to: frameStart)
    var offset = 0
    block.withUnsafeBytes { bytes in
      while offset < bytes.count {
        let size = min(peerMaxFrameSize, bytes.count - offset)
        let isLast = offset + size == bytes.count
        let flags = (offset == 0 ? endFlag : 0) | (isLast ? FrameFlags.endHeaders : 0)
        let type = offset == 0 ? FrameType.headers : FrameType.continuation
        writeFrame(
          type, flags: flags, stream: id,
          UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + size)]))
        offset += size
      }
    }
  }

  func writeFrame(_ type: UInt8, flags: UInt8, stream: UInt32, _ payload: UnsafeRawBufferPointer) {
    let start = output.reserve(FrameHeader.size + payload.count)
    FrameHeader(length: payload.count, type: type, flags: flags, stream: stream).write(to: start)
    output.advance(FrameHeader.size)
    output.append(payload)
    if output.count > limits.maxOutputBytes, phase == .open {
      let error = HTTP2Error(.enhanceYourCalm, "the peer does not read its answers")
      pendingEvents.append((fail(error), 0))
    }
  }

  private func writeFrame(_ type: UInt8, flags: UInt8, stream: UInt32, _ payload: [UInt8]) {
    payload.withUnsafeBytes { writeFrame(type, flags: flags, stream: stream, $0) }
  }

  func writeWindowUpdate(_ id: UInt32, _ increment: Int) {
    withUnsafeBytes(of: UInt32(clamping: increment).bigEndian) {
      writeFrame(FrameType.windowUpdate, flags: 0, stream: id, $0)
    }
  }

  func writeReset(_ id: UInt32, _ code: HTTP2ErrorCode) {
    recentlyReset.insert(id)
    withUnsafeBytes(of: code.rawValue.bigEndian) {
      writeFrame(FrameType.resetStream, flags: 0, stream: id, $0)
    }
  }

  func writeGoAway(lastStream: UInt32, _ code: HTTP2ErrorCode, debug: String) {
    var payload: [UInt8] = []
    withUnsafeBytes(of: lastStream.bigEndian) { payload.append(contentsOf: $0) }
    withUnsafeBytes(of: code.rawValue.bigEndian) { payload.append(contentsOf: $0) }
    payload.append(contentsOf: debug.utf8)
    writeFrame(FrameType.goAway, flags: 0, stream: 0, payload)
  }
}
