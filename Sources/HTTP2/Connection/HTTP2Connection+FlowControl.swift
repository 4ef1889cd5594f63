// Windows, both ways. Source: RFC 9113, sections 5.2 and 6.9.

extension HTTP2Connection {
  func receiveWindowUpdate(
    _ frame: FrameHeader, _ payload: UnsafeRawBufferPointer
  ) throws(HTTP2Error) -> Event? {
    if frame.length != 4 { throw HTTP2Error(.frameSizeError, "WINDOW_UPDATE is not 4 bytes") }
    try spendControl()
    let increment = Int(loadBigEndian(payload, at: 0, as: UInt32.self) & 0x7FFF_FFFF)
    if frame.stream == 0 {
      if increment == 0 { throw HTTP2Error(.protocolError, "a window update of nothing") }
      sendWindow += increment
      if sendWindow > Self.largestWindow {
        throw HTTP2Error(.flowControlError, "the connection's window beyond 2^31-1")
      }
      pump()
      return nil
    }
    let slot = streams.find(frame.stream)
    guard slot >= 0 else {
      let opened = role == .server ? lastPeerStream : nextOwnStream &- 1
      if frame.stream > opened || frame.stream & 1 == 0 {
        throw HTTP2Error(.protocolError, "WINDOW_UPDATE on an idle stream")
      }
      return nil
    }
    if increment == 0 { return try streamError(frame.stream, .protocolError) }
    streams.slots[slot].sendWindow += increment
    if streams.slots[slot].sendWindow > Self.largestWindow {
      return try streamError(frame.stream, .flowControlError)
    }
    if streams.slots[slot].queue != nil {
      markReady(slot)
      pump()
    }
    return nil
  }

  /// A new initial window moves the windows of all open streams by the difference.
  func changeInitialWindow(to size: Int) throws(HTTP2Error) {
    let difference = size - peerInitialWindow
    peerInitialWindow = size
    for slot in streams.slots.indices where streams.slots[slot].id != 0 {
      streams.slots[slot].sendWindow += difference
      if streams.slots[slot].sendWindow > Self.largestWindow {
        throw HTTP2Error(.flowControlError, "a stream's window beyond 2^31-1")
      }
      if streams.slots[slot].queue != nil { markReady(slot) }
    }
  }

  /// With `automaticWindowUpdates` off: the user is done with that many bytes of the stream.
  public func consume(_ bytes: Int, on stream: StreamID) {
    let slot = streams.find(stream.rawValue)
    guard !automaticWindowUpdates, slot >= 0, !streams.slots[slot].receiveClosed else { return }
    giveBackWindow(slot, bytes)
  }

  /// The connection's window opens as DATA arrives, whatever becomes of its stream.
  @inline(__always)
  func giveBackConnectionWindow(_ bytes: Int) {
    unannounced &+= bytes
    if unannounced >= limits.connectionReceiveWindow / 2 {
      writeWindowUpdate(0, unannounced)
      receiveWindow += unannounced
      unannounced = 0
    }
  }

  @inline(__always)
  func giveBackWindow(_ slot: Int, _ bytes: Int) {
    streams.slots[slot].unannounced &+= bytes
    let unannounced = streams.slots[slot].unannounced
    if unannounced >= limits.streamReceiveWindow / 2 {
      writeWindowUpdate(streams.slots[slot].id, unannounced)
      streams.slots[slot].receiveWindow += unannounced
      streams.slots[slot].unannounced = 0
    }
  }

  // MARK: Streams that wait

  /// Puts a stream with queued bytes in the line if its window is open.
  func markReady(_ slot: Int) {
    guard !streams.slots[slot].isReady, let queue = streams.slots[slot].queue,
      streams.slots[slot].sendWindow > 0 || queue.count == 0
    else { return }
    streams.slots[slot].isReady = true
    ready.append(streams.slots[slot].id)
  }

  /// Moves queued bytes to the output, a frame of each waiting stream in turn, as far as the windows
  /// and `limits.outputTarget` allow. The glue calls it after it has sent the output.
  public func pump() {
    guard !ready.isEmpty, phase == .open else { return }
    while !ready.isEmpty, output.count < limits.outputTarget {
      // One round; those that still have something to send are the next round.
      var next: [UInt32] = []
      var progressed = false
      for (turn, id) in ready.enumerated() {
        if output.count >= limits.outputTarget {
          next.append(contentsOf: ready[turn...])
          break
        }
        let slot = streams.find(id)
        guard slot >= 0, streams.slots[slot].isReady else { continue }
        let before = output.count
        if pumpOne(slot) { next.append(id) }
        if output.count != before { progressed = true }
      }
      ready = next
      if !progressed { return }
    }
  }

  /// Sends one frame of a waiting stream; true if it stays in the line.
  private func pumpOne(_ slot: Int) -> Bool {
    guard let queue = streams.slots[slot].queue else {
      streams.slots[slot].isReady = false
      return false
    }
    if queue.count > 0 {
      let room = min(sendWindow, streams.slots[slot].sendWindow, peerMaxFrameSize, queue.count)
      if room <= 0 {
        // Out of its own window, it leaves the line until an update; out of the connection's, it stays.
        let waitsForConnection = streams.slots[slot].sendWindow > 0
        streams.slots[slot].isReady = waitsForConnection
        return waitsForConnection
      }
      let isLast = room == queue.count && queue.trailers == nil && streams.slots[slot].endRequested
      FrameHeader(
        length: room, type: FrameType.data, flags: isLast ? FrameFlags.endStream : 0,
        stream: streams.slots[slot].id
      ).write(to: output.reserve(FrameHeader.size))
      output.advance(FrameHeader.size)
      queue.take(room, into: output)
      sendWindow -= room
      streams.slots[slot].sendWindow -= room
      queuedBytes -= room
      controlBudget.earn(limits.controlFramesEarnedPerFrameSent)
      pings.forgives = true
      if isLast { streams.slots[slot].sendClosed = true }
      if queue.count > 0 { return true }
    }
    finishQueue(slot, queue)
    return false
  }

  /// The stream's bytes are all out: its trailers follow, and the user may send more.
  private func finishQueue(_ slot: Int, _ queue: SendQueue) {
    let id = streams.slots[slot].id
    streams.slots[slot].isReady = false
    streams.slots[slot].queue = nil
    if let trailers = queue.trailers {
      writeBlock(id, trailers, extra: [], endStream: true)
      streams.slots[slot].sendClosed = true
    }
    if streams.slots[slot].sendClosed {
      closeIfDone(slot)
    } else {
      pendingEvents.append((.writable(StreamID(id)), streams.slots[slot].tag))
    }
  }
}
