// Header blocks in: HEADERS, CONTINUATION, and what they open or end.

extension HTTP2Connection {
  func receiveHeaders(
    _ frame: FrameHeader, _ payload: UnsafeRawBufferPointer
  ) throws(HTTP2Error) -> Event? {
    if frame.stream == 0 { throw HTTP2Error(.protocolError, "HEADERS on stream 0") }
    var start = 0
    var end = payload.count
    if frame.flags & FrameFlags.padded != 0 {
      guard let padding = payload.first, Int(padding) < payload.count else {
        throw HTTP2Error(.protocolError, "padding longer than its frame")
      }
      start = 1
      end -= Int(padding)
    }
    if frame.flags & FrameFlags.priority != 0 { start += 5 }
    if start > end { throw HTTP2Error(.frameSizeError, "HEADERS too short for what it announces") }
    let fragment = UnsafeRawBufferPointer(rebasing: payload[start..<end])
    let endStream = frame.flags & FrameFlags.endStream != 0
    if frame.flags & FrameFlags.endHeaders != 0 {
      return try receiveBlock(frame.stream, fragment, endStream: endStream)
    }
    assembly = HeaderAssembly(stream: frame.stream, endStream: endStream, bytes: Array(fragment))
    return nil
  }

  func receiveContinuation(
    _ frame: FrameHeader, _ payload: UnsafeRawBufferPointer
  ) throws(HTTP2Error) -> Event? {
    guard assembly != nil else {
      throw HTTP2Error(.protocolError, "CONTINUATION without a header block")
    }
    assembly!.continuations += 1
    if assembly!.continuations > limits.maxContinuationFrames
      || assembly!.bytes.count + payload.count > limits.maxHeaderBlockBytes
    {
      throw HTTP2Error(.enhanceYourCalm, "a header block is too long")
    }
    assembly!.bytes.append(contentsOf: payload)
    guard frame.flags & FrameFlags.endHeaders != 0, let whole = assembly else { return nil }
    assembly = nil
    // The event's bytes are in the decoder's buffers, not in the assembly's.
    let result = whole.bytes.withUnsafeBytes { bytes -> Result<Event?, HTTP2Error> in
      do throws(HTTP2Error) {
        return .success(try receiveBlock(whole.stream, bytes, endStream: whole.endStream))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }

  /// A whole block. It is decoded whatever becomes of its stream: the compression state needs it.
  @inline(__always)
  private func receiveBlock(
    _ id: UInt32, _ compressed: UnsafeRawBufferPointer, endStream: Bool
  ) throws(HTTP2Error) -> Event? {
    let block = try decoder.decode(compressed)
    let slot = streams.find(id)
    if role == .server, slot < 0 { return try openPeerStream(id, block, endStream: endStream) }
    guard slot >= 0 else { return try blockOnUnknownStream(id) }
    eventTag = streams.slots[slot].tag
    if streams.slots[slot].receiveClosed { return try streamError(id, .streamClosed) }
    if block.exceedsLimits { return try streamError(id, .enhanceYourCalm) }
    if streams.slots[slot].headReceived {
      guard endStream, block.validate(as: .trailers) == nil,
        streams.slots[slot].contentRemaining <= 0
      else { return try streamError(id, .protocolError) }
      headers = block
      streams.slots[slot].receiveClosed = true
      closeIfDone(slot)
      return .trailers(StreamID(id))
    }
    return try receiveResponse(slot, id, block, endStream: endStream)
  }

  private func openPeerStream(
    _ id: UInt32, _ block: HeaderBlock, endStream: Bool
  ) throws(HTTP2Error) -> Event? {
    if id & 1 == 0 { throw HTTP2Error(.protocolError, "a client's stream with an even number") }
    if id <= lastPeerStream {
      if recentlyReset.contains(id) { return nil }
      throw HTTP2Error(.streamClosed, "HEADERS on a stream that is closed")
    }
    if let goAwayLimit, id > goAwayLimit { return nil }
    lastPeerStream = id
    if block.exceedsLimits { return try streamError(id, .enhanceYourCalm) }
    if block.validate(as: .request) != nil { return try streamError(id, .protocolError) }
    if streams.count >= limits.maxConcurrentStreams
      || queuedBytes > limits.queuedBytesToRefuseStreams
    {
      return try streamError(id, .refusedStream)
    }
    if endStream, block.contentLength > 0 { return try streamError(id, .protocolError) }
    var stream = HTTP2Stream(
      id: id, sendWindow: peerInitialWindow, receiveWindow: limits.streamReceiveWindow)
    stream.headReceived = true
    stream.receiveClosed = endStream
    stream.contentRemaining = block.contentLength
    _ = streams.insert(stream)
    eventTag = 0
    headers = block
    return .headers(StreamID(id), endStream: endStream)
  }

  private func receiveResponse(
    _ slot: Int, _ id: UInt32, _ block: HeaderBlock, endStream: Bool
  ) throws(HTTP2Error) -> Event? {
    if block.validate(as: .response) != nil { return try streamError(id, .protocolError) }
    if block.status < 200 {
      // Informational responses say nothing that our clients act upon; they can't end a stream.
      try spendControl()
      return endStream ? try streamError(id, .protocolError) : nil
    }
    headers = block
    streams.slots[slot].headReceived = true
    // Answers to HEAD and 304 name a length that doesn't come; those end here.
    streams.slots[slot].contentRemaining = endStream ? -1 : block.contentLength
    if endStream {
      streams.slots[slot].receiveClosed = true
      closeIfDone(slot)
    }
    return .headers(StreamID(id), endStream: endStream)
  }

  private func blockOnUnknownStream(_ id: UInt32) throws(HTTP2Error) -> Event? {
    if id & 1 == 0 || id >= nextOwnStream {
      throw HTTP2Error(.protocolError, "HEADERS on a stream that was never opened")
    }
    if recentlyReset.contains(id) { return nil }
    return try streamError(id, .streamClosed)
  }
}
