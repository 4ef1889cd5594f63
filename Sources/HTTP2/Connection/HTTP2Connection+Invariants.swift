import Primitives

extension HTTP2Connection {
  /// Checks that the connection's books balance. O(streams); for tests.
  public func validate() {
    var queued = 0
    var open = 0
    for stream in streams.slots where stream.id != 0 {
      open += 1
      queued += stream.queue?.count ?? 0
      invariant(
        streams.find(stream.id) >= 0, "stream \(stream.id) is in a slot but not in the table")
      invariant(
        !(stream.receiveClosed && stream.sendClosed), "stream \(stream.id) is over but still there")
      invariant(stream.endRequested || !stream.sendClosed, "stream \(stream.id) ended unasked")
      invariant(
        stream.receiveWindow >= 0, "stream \(stream.id) received more than its window")
      invariant(
        stream.queue == nil || stream.isReady || stream.sendWindow <= 0,
        "stream \(stream.id) could send and isn't in the line")
      invariant(
        stream.queue != nil || !stream.isReady, "stream \(stream.id) stands in line for nothing")
      invariant(
        !stream.isReady || ready.contains(stream.id), "stream \(stream.id) thinks it is in the line"
      )
    }
    invariant(open == streams.count, "\(open) streams, but \(streams.count) are counted")
    invariant(queued == queuedBytes, "\(queued) bytes wait, but \(queuedBytes) are counted")
    invariant(phase == .failed || sendWindow >= 0, "more was sent than the connection's window")
    invariant(
      phase == .failed || receiveWindow >= 0, "more was taken than the connection's window")
  }
}
