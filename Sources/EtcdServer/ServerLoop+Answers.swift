import EtcdWire
import HTTP2
import MVCC
import NIOCore
import Primitives
import Replica
import Synchronization

// Writing answers, and sending them once a turn.

extension ServerLoop {
  /// Writes the response header's bytes for this revision to `header`, as field 1.
  @inline(__always)
  func setHeader(_ revision: Revision, _ term: Term) {
    header.removeAll(keepingCapacity: true)
    header.append(0x0A)
    header.append(0)
    header.append(contentsOf: headerPrefix)
    header.append(field: 3, int64: revision.rawValue)
    header.append(field: 4, varint: term.rawValue)
    // At most 42 bytes: the length takes one.
    header[1] = UInt8(truncatingIfNeeded: header.count &- 2)
  }

  /// Answers a unary call with the header set before and the rest of the response.
  @inline(__always)
  func respond(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod, _ rest: [UInt8]
  ) {
    header.withUnsafeBytes { header in
      rest.withUnsafeBytes { rest in connection.respond(stream, header, rest) }
    }
    metrics.count(method, .ok)
    metrics.sentBytes &+= UInt64(header.count &+ rest.count)
    noteUnflushed(connection)
  }

  func fail(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod,
    _ status: GRPCStatus
  ) {
    connection.finish(stream, status)
    metrics.count(method, status.code)
    noteUnflushed(connection)
  }

  func fail(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod,
    _ error: EtcdError
  ) {
    fail(connection, stream, method, GRPCStatus(error))
  }

  @inline(__always)
  func noteUnflushed(_ connection: GRPCServerConnection) {
    if connection.isFlushPending { return }
    connection.isFlushPending = true
    unflushed.append(connection)
    scheduleTurnEndFlush()
  }

  /// Answers given in a read burst leave with it; those given elsewhere leave when that work is done,
  /// which `flush` ends. This catches what neither does.
  private func scheduleTurnEndFlush() {
    if isFlushScheduled { return }
    isFlushScheduled = true
    let bound = NIOLoopBound(self, eventLoop: eventLoop)
    eventLoop.execute {
      bound.value.isFlushScheduled = false
      bound.value.flush()
    }
  }

  func flush() {
    if unflushed.isEmpty { return }
    let due = unflushed
    unflushed.removeAll(keepingCapacity: true)
    for connection in due {
      connection.isFlushPending = false
      connection.flush()
    }
  }
}
