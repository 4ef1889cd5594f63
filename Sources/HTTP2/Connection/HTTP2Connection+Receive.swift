import Primitives

// Frames in. Each `receive…` checks one kind of frame against RFC 9113, section 6, and throws what
// ends the connection; what concerns one stream resets that stream.

extension HTTP2Connection {
  /// The next event in `input`, or nil when it is used up to its last whole frame. The bytes from
  /// `input.offset` on must be presented again, with more behind them.
  public func nextEvent(_ input: inout Input) -> Event? {
    if let event = takePendingEvent() { return event }
    guard phase == .open else {
      input.offset = input.bytes.count
      return nil
    }
    do throws(HTTP2Error) {
      if prefaceRemaining > 0 { try matchPreface(&input) }
      while input.remaining >= FrameHeader.size, prefaceRemaining == 0 {
        let frame = FrameHeader(at: input.bytes.baseAddress! + input.offset)
        if frame.length > limits.maxFrameSize {
          throw HTTP2Error(.frameSizeError, "a frame of \(frame.length) bytes")
        }
        guard input.remaining >= FrameHeader.size &+ frame.length else { break }
        let start = input.offset &+ FrameHeader.size
        input.offset = start &+ frame.length
        let payload = UnsafeRawBufferPointer(rebasing: input.bytes[start..<input.offset])
        if let event = try receive(frame, payload) { return event }
        if let event = takePendingEvent() { return event }
      }
      return nil
    } catch {
      input.offset = input.bytes.count
      return fail(error)
    }
  }

  /// An event that no input caused, such as a stream that drained when the output was sent.
  public func takePendingEvent() -> Event? {
    guard nextPendingEvent < pendingEvents.count else { return nil }
    let (event, tag) = pendingEvents[nextPendingEvent]
    eventTag = tag
    nextPendingEvent += 1
    if nextPendingEvent == pendingEvents.count {
      pendingEvents.removeAll(keepingCapacity: true)
      nextPendingEvent = 0
    }
    return event
  }

  /// Ends the connection: GOAWAY goes to the output, and no input is looked at any more.
  @discardableResult
  public func fail(_ error: HTTP2Error) -> Event {
    if phase == .open {
      phase = .failed
      writeGoAway(lastStream: lastPeerStream, error.code, debug: error.message)
    }
    return .failed(error)
  }

  private func matchPreface(_ input: inout Input) throws(HTTP2Error) {
    let preface = Self.preface
    let total = preface.utf8CodeUnitCount
    while prefaceRemaining > 0, input.remaining > 0 {
      guard input.bytes[input.offset] == preface.utf8Start[total - prefaceRemaining] else {
        throw HTTP2Error(.protocolError, "not the HTTP/2 preface")
      }
      input.offset += 1
      prefaceRemaining -= 1
    }
  }

  @inline(__always)
  private func receive(
    _ frame: FrameHeader, _ payload: UnsafeRawBufferPointer
  ) throws(HTTP2Error) -> Event? {
    if expectsSettings || assembly != nil { try checkSequence(frame) }
    switch frame.type {
    case FrameType.data: return try receiveData(frame, payload)
    case FrameType.headers: return try receiveHeaders(frame, payload)
    case FrameType.windowUpdate: return try receiveWindowUpdate(frame, payload)
    case FrameType.continuation: return try receiveContinuation(frame, payload)
    case FrameType.resetStream: return try receiveReset(frame, payload)
    case FrameType.settings: return try receiveSettings(frame, payload)
    case FrameType.ping: return try receivePing(frame, payload)
    case FrameType.goAway: return try receiveGoAway(frame, payload)
    case FrameType.pushPromise: throw HTTP2Error(.protocolError, "a push, which is disabled")
    case FrameType.priority:
      try spendControl()
      if frame.stream == 0 { throw HTTP2Error(.protocolError, "PRIORITY on stream 0") }
      if frame.length != 5 { return try streamError(frame.stream, .frameSizeError) }
      return nil
    default:
      // Unknown kinds must be ignored.
      try spendControl()
      return nil
    }
  }

  private func checkSequence(_ frame: FrameHeader) throws(HTTP2Error) {
    if expectsSettings {
      guard frame.type == FrameType.settings, frame.flags & FrameFlags.acknowledgement == 0 else {
        throw HTTP2Error(.protocolError, "the first frame is not SETTINGS")
      }
      expectsSettings = false
    }
    if let assembly {
      guard frame.type == FrameType.continuation, frame.stream == assembly.stream else {
        throw HTTP2Error(.protocolError, "a header block is interrupted by another frame")
      }
    }
  }

  // MARK: DATA

  private func receiveData(
    _ frame: FrameHeader, _ payload: UnsafeRawBufferPointer
  ) throws(HTTP2Error) -> Event? {
    var data = payload
    if frame.flags & FrameFlags.padded != 0 {
      guard let padding = payload.first, Int(padding) < payload.count else {
        throw HTTP2Error(.protocolError, "padding longer than its frame")
      }
      data = UnsafeRawBufferPointer(rebasing: payload[1..<(payload.count &- Int(padding))])
    }
    if frame.stream == 0 { throw HTTP2Error(.protocolError, "DATA on stream 0") }
    let endStream = frame.flags & FrameFlags.endStream != 0

    // The whole payload, padding too, counts against the windows.
    receiveWindow &-= frame.length
    if receiveWindow < 0 {
      throw HTTP2Error(.flowControlError, "DATA beyond the connection's window")
    }
    giveBackConnectionWindow(frame.length)

    let slot = streams.find(frame.stream)
    if slot < 0 { return try dataOnClosedStream(frame.stream) }
    if streams.slots[slot].receiveClosed || !streams.slots[slot].headReceived {
      return try streamError(
        frame.stream, streams.slots[slot].receiveClosed ? .streamClosed : .protocolError)
    }
    eventTag = streams.slots[slot].tag
    streams.slots[slot].receiveWindow &-= frame.length
    if streams.slots[slot].receiveWindow < 0 {
      return try streamError(frame.stream, .flowControlError)
    }
    if streams.slots[slot].contentRemaining >= 0 {
      streams.slots[slot].contentRemaining &-= Int64(data.count)
      let left = streams.slots[slot].contentRemaining
      if left < 0 || (endStream && left != 0) {
        return try streamError(frame.stream, .protocolError)
      }
    }
    if endStream {
      streams.slots[slot].receiveClosed = true
      closeIfDone(slot)
    } else {
      if data.isEmpty, !emptyDataBudget.spend(now: now) {
        throw HTTP2Error(.enhanceYourCalm, "too many empty DATA frames")
      }
      let padding = frame.length &- data.count
      giveBackWindow(slot, automaticWindowUpdates ? frame.length : padding)
      if data.isEmpty { return nil }
    }
    return .data(StreamID(frame.stream), data, endStream: endStream)
  }

  private func dataOnClosedStream(_ id: UInt32) throws(HTTP2Error) -> Event? {
    if isIdle(id) { throw HTTP2Error(.protocolError, "DATA on a stream that was never opened") }
    if recentlyReset.contains(id) { return nil }
    return try streamError(id, .streamClosed)
  }

  /// Streams that neither side has opened.
  private func isIdle(_ id: UInt32) -> Bool {
    let isClients = id & 1 == 1
    if role == .server { return !isClients || id > lastPeerStream }
    return !isClients || id >= nextOwnStream
  }

  // MARK: RST_STREAM

  private func receiveReset(
    _ frame: FrameHeader, _ payload: UnsafeRawBufferPointer
  ) throws(HTTP2Error) -> Event? {
    if frame.length != 4 { throw HTTP2Error(.frameSizeError, "RST_STREAM is not 4 bytes") }
    if frame.stream == 0 || isIdle(frame.stream) {
      throw HTTP2Error(.protocolError, "RST_STREAM on an idle stream")
    }
    let slot = streams.find(frame.stream)
    guard slot >= 0 else {
      try spendControl()
      return nil
    }
    let code = HTTP2ErrorCode(rawValue: loadBigEndian(payload, at: 0))
    if role == .server, !streams.slots[slot].sendClosed, !prematureResetBudget.spend(now: now) {
      throw HTTP2Error(.enhanceYourCalm, "too many streams reset before they ended")
    }
    eventTag = streams.slots[slot].tag
    removeStream(slot)
    return .reset(StreamID(frame.stream), code)
  }

  // MARK: SETTINGS

  private func receiveSettings(
    _ frame: FrameHeader, _ payload: UnsafeRawBufferPointer
  ) throws(HTTP2Error) -> Event? {
    if frame.stream != 0 { throw HTTP2Error(.protocolError, "SETTINGS on a stream") }
    if frame.flags & FrameFlags.acknowledgement != 0 {
      if frame.length != 0 {
        throw HTTP2Error(.frameSizeError, "a SETTINGS acknowledgement with data")
      }
      try spendControl()
      unacknowledgedSettings = max(0, unacknowledgedSettings - 1)
      return nil
    }
    if frame.length % 6 != 0 {
      throw HTTP2Error(.frameSizeError, "SETTINGS of \(frame.length) bytes")
    }
    if !settingsBudget.spend(now: now) { throw HTTP2Error(.enhanceYourCalm, "too many SETTINGS") }
    for offset in stride(from: 0, to: payload.count, by: 6) {
      try apply(
        setting: loadBigEndian(payload, at: offset), value: loadBigEndian(payload, at: offset + 2))
    }
    writeFrame(
      FrameType.settings, flags: FrameFlags.acknowledgement, stream: 0,
      UnsafeRawBufferPointer(start: nil, count: 0))
    pump()
    return .settings
  }

  private func apply(setting: UInt16, value: UInt32) throws(HTTP2Error) {
    switch setting {
    case SettingID.headerTableSize:
      encoder.peerAllows(tableSize: Int(value))
    case SettingID.enablePush:
      if value > 1 || (role == .client && value != 0) {
        throw HTTP2Error(.protocolError, "ENABLE_PUSH is \(value)")
      }
    case SettingID.maxConcurrentStreams:
      peerMaxConcurrentStreams = Int(value)
    case SettingID.initialWindowSize:
      if value > Self.largestWindow {
        throw HTTP2Error(.flowControlError, "an initial window of \(value) bytes")
      }
      try changeInitialWindow(to: Int(value))
    case SettingID.maxFrameSize:
      if value < 16_384 || value > 0xFF_FFFF {
        throw HTTP2Error(.protocolError, "a largest frame of \(value) bytes")
      }
      peerMaxFrameSize = Int(value)
    default: break  // Unknown settings must be ignored; header list sizes are advice.
    }
  }

  // MARK: PING, GOAWAY

  private func receivePing(
    _ frame: FrameHeader, _ payload: UnsafeRawBufferPointer
  ) throws(HTTP2Error) -> Event? {
    if frame.length != 8 { throw HTTP2Error(.frameSizeError, "PING is not 8 bytes") }
    if frame.stream != 0 { throw HTTP2Error(.protocolError, "PING on a stream") }
    try spendControl()
    if frame.flags & FrameFlags.acknowledgement == 0 {
      if let interval = limits.minimumPingInterval,
        !pings.allows(now: now, interval: streams.count > 0 ? interval : HTTP2Limits.idlePingInterval)
      {
        throw HTTP2Error(.enhanceYourCalm, "too_many_pings")
      }
      writeFrame(FrameType.ping, flags: FrameFlags.acknowledgement, stream: 0, payload)
      return nil
    }
    let opaque: UInt64 = loadBigEndian(payload, at: 0)
    switch opaque {
    case Self.keepAlivePing:
      keepAliveSentAt = nil
      return nil
    case Self.drainPing:
      finishDraining()
      return nil
    default: return .pong(opaque)
    }
  }

  private func receiveGoAway(
    _ frame: FrameHeader, _ payload: UnsafeRawBufferPointer
  ) throws(HTTP2Error) -> Event? {
    if frame.stream != 0 { throw HTTP2Error(.protocolError, "GOAWAY on a stream") }
    if frame.length < 8 { throw HTTP2Error(.frameSizeError, "GOAWAY of \(frame.length) bytes") }
    try spendControl()
    let last = loadBigEndian(payload, at: 0, as: UInt32.self) & 0x7FFF_FFFF
    let code = HTTP2ErrorCode(rawValue: loadBigEndian(payload, at: 4))
    isPeerGoingAway = true
    if role == .client {
      for id in streams.ids where id > last {
        let slot = streams.find(id)
        let tag = streams.slots[slot].tag
        removeStream(slot)
        pendingEvents.append((.reset(StreamID(id), .refusedStream), tag))
      }
    }
    return .goAway(lastStream: StreamID(last), code)
  }

  // MARK: Mistakes

  /// Takes one from the budget for frames that bring nothing.
  func spendControl() throws(HTTP2Error) {
    if !controlBudget.spend(now: now) {
      throw HTTP2Error(.enhanceYourCalm, "too many control frames")
    }
  }

  /// Resets a stream over the peer's mistake and reports it if the user knows the stream.
  func streamError(_ id: UInt32, _ code: HTTP2ErrorCode) throws(HTTP2Error) -> Event? {
    if !streamErrorBudget.spend(now: now) {
      throw HTTP2Error(.enhanceYourCalm, "too many broken streams")
    }
    let slot = streams.find(id)
    let isKnown = slot >= 0 && (role == .client || streams.slots[slot].headReceived)
    if slot >= 0 {
      eventTag = streams.slots[slot].tag
      removeStream(slot)
    }
    writeReset(id, code)
    return isKnown ? .reset(StreamID(id), code) : nil
  }
}
