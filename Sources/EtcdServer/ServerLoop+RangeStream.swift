import EtcdWire
import HTTP2
import MVCC
import NIOCore
import Primitives
import Replica

// KV.RangeStream: a range of any size as a series of messages, all of one revision.
//
// A piece is cut from the view, sent, and the next follows in a later turn of the loop, as long as the client
// reads; so neither memory nor the loop's other clients pay for a large range. What a client that stops reading
// costs is the view: the records that were changed since stay in memory for it. It gets a minute.

/// A range on its way to a client.
final class RangeTransfer {
  let connection: GRPCServerConnection
  let stream: StreamID
  let view: StoreView
  let term: Term
  fileprivate var pager: RangePager
  /// When the last piece was taken.
  fileprivate var lastProgress: Instant
  /// The next piece is due in the loop's next turn.
  fileprivate var isScheduled = false

  fileprivate init(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ view: StoreView, _ term: Term,
    _ pager: RangePager, now: Instant
  ) {
    self.connection = connection
    self.stream = stream
    self.view = view
    self.term = term
    self.pager = pager
    lastProgress = now
  }
}

extension ServerLoop {
  func rangeStream(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ message: UnsafeRawBufferPointer
  ) {
    do throws(WireError) {
      let request = try RangeRequest(message)
      if let error = request.checkForStream() {
        fail(connection, stream, .rangeStream, error)
      } else if request.serializable {
        startRange(request, connection, stream, from: currentView(), front.status.term, caller)
      } else {
        group.append(connection, stream, .rangeStream, message, caller)
        scheduleTurnEnd()
      }
    } catch {
      fail(connection, stream, .rangeStream, GRPCStatus(error))
    }
  }

  /// Begins to send what a request asks for as of `view`.
  func startRange(
    _ request: RangeRequest, _ connection: GRPCServerConnection, _ stream: StreamID,
    from view: StoreView, _ term: Term, _ caller: AuthCaller?
  ) {
    do throws(ApplyError) {
      if view.isAuthEnabled { try view.authorize(request, caller) }
      if request.countOnly {
        body.removeAll(keepingCapacity: true)
        try view.range(request, into: &body)
        send(piece: body, isLast: true, connection, stream, view, term)
        return finishRange(connection, stream)
      }
      let transfer = RangeTransfer(
        connection, stream, view, term, try view.pager(request), now: Self.now())
      rangeStreams[StreamKey(connection, stream)] = transfer
      sendNext(of: transfer)
    } catch {
      fail(connection, stream, .rangeStream, GRPCStatus(error))
    }
  }

  /// The client has read what was sent to it.
  func resume(_ transfer: RangeTransfer) {
    if !transfer.isScheduled { sendNext(of: transfer) }
    flush()
  }

  private func sendNext(of transfer: RangeTransfer) {
    let (connection, stream) = (transfer.connection, transfer.stream)
    let key = StreamKey(connection, stream)
    guard rangeStreams[key] === transfer else { return }
    guard connection.isOpen(stream) else {
      rangeStreams[key] = nil
      return
    }
    if connection.queuedBytes(on: stream) >= EtcdServerLimits.rangeQueueBytes { return }
    transfer.lastProgress = Self.now()
    var piece: [UInt8] = []
    let isMore = transfer.pager.next(byteLimit: EtcdServerLimits.rangePieceBytes, into: &piece)
    send(piece: piece, isLast: !isMore, connection, stream, transfer.view, transfer.term)
    guard isMore else {
      rangeStreams[key] = nil
      return finishRange(connection, stream)
    }
    transfer.isScheduled = true
    let bound = NIOLoopBound((self, transfer), eventLoop: eventLoop)
    eventLoop.execute {
      let (loop, transfer) = bound.value
      transfer.isScheduled = false
      loop.sendNext(of: transfer)
    }
  }

  /// Sends a message: `RangeResponse` records in a `RangeStreamResponse`, of which the last one has the header.
  private func send(
    piece: [UInt8], isLast: Bool, _ connection: GRPCServerConnection, _ stream: StreamID,
    _ view: StoreView, _ term: Term
  ) {
    setHeader(view.revision, term)
    var first: [UInt8] = []
    first.append(tag: 1 << 3 | 2)
    first.append(varint: UInt64(piece.count + (isLast ? header.count : 0)))
    if isLast { first += header }
    first.withUnsafeBytes { first in
      piece.withUnsafeBytes { _ = connection.send(stream, first, $0) }
    }
    metrics.sentBytes &+= UInt64(first.count &+ piece.count)
    noteUnflushed(connection)
  }

  private func finishRange(_ connection: GRPCServerConnection, _ stream: StreamID) {
    connection.finish(stream, .ok)
    metrics.count(.rangeStream, .ok)
    noteUnflushed(connection)
  }

  /// Ends the transfers whose clients have stopped to read.
  func expireRangeStreams(at now: Instant) {
    for (key, transfer) in rangeStreams
    where transfer.lastProgress.advanced(by: EtcdServerLimits.rangeStallTimeout) <= now {
      rangeStreams[key] = nil
      fail(
        transfer.connection, transfer.stream, .rangeStream,
        GRPCStatus(
          .aborted, "etcdserver: the client did not read for a minute; its revision is not kept"))
    }
  }
}
