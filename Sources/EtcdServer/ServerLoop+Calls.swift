import EtcdWire
import HTTP2
import MVCC
import NIOCore
import Primitives
import Replica
import Synchronization

// What connections report: calls begun, messages, calls given up.

extension ServerLoop: GRPCServerDelegate {
  func grpc(
    _ connection: GRPCServerConnection, unary method: Int, stream: StreamID,
    message: UnsafeRawBufferPointer
  ) {
    guard let method = EtcdMethod(rawValue: method) else { return }
    metrics.started[method.rawValue] &+= 1
    metrics.receivedBytes &+= UInt64(message.count)
    if message.count > settings.maxRequestBytes {
      fail(connection, stream, method, EtcdError.requestTooLarge)
      return
    }
    if connection.eventRequiresLeader, front.status.leader == nil {
      return fail(connection, stream, method, EtcdError.noLeader)
    }
    let restrictions = front.restrictions
    if !restrictions.isEmpty, let error = refusal(of: method, message, restrictions) {
      return fail(connection, stream, method, error)
    }
    if front.isAuthEnabled {
      dispatchIdentified(connection, stream, method, message)
    } else {
      dispatch(connection, stream, method, message)
    }
  }

  func dispatch(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod,
    _ message: UnsafeRawBufferPointer
  ) {
    switch method {
    case .range: range(connection, stream, message)
    case .put: put(connection, stream, message)
    case .txn: transaction(connection, stream, message)
    case .deleteRange: deleteRange(connection, stream, message)
    case .compact: compact(connection, stream, message)
    case .leaseGrant: leaseGrant(connection, stream, message)
    case .leaseRevoke: leaseRevoke(connection, stream, message)
    case .leaseTimeToLive: leaseTimeToLive(connection, stream, message)
    case .leaseLeases: leaseLeases(connection, stream, message)
    case .rangeStream: rangeStream(connection, stream, message)
    case .watch, .leaseKeepAlive, .healthWatch: break
    case .lock, .unlock, .campaign, .proclaim, .leader, .observe, .resign:
      coordinate(connection, stream, method, message)
    default: administer(connection, stream, method, message)
    }
  }

  func grpc(
    _ connection: GRPCServerConnection, opened method: Int, stream: StreamID, headers: HeaderBlock
  ) {
    guard let method = EtcdMethod(rawValue: method) else { return }
    metrics.started[method.rawValue] &+= 1
    if front.restrictions.contains(.learner), method != .healthWatch {
      return fail(connection, stream, method, EtcdError.notSupportedForLearner)
    }
    let key = StreamKey(connection, stream)
    if let value = headers.first(.hasleader), value.elementsEqual("true".utf8) {
      if front.status.leader == nil {
        fail(connection, stream, method, EtcdError.noLeader)
        return
      }
      leaderStreams[key] = connection
    }
    switch method {
    case .watch:
      let watchStream = WatchStream(
        connection, stream,
        credential: connection.credential(of: stream))
      watchStreams[key] = watchStream
      holdIfUnknown(watchStream)
    case .leaseKeepAlive: keepAliveStreams[key] = KeepAliveStream(connection)
    default: break
    }
  }

  func grpc(
    _ connection: GRPCServerConnection, received message: UnsafeRawBufferPointer, method: Int,
    stream: StreamID
  ) {
    metrics.receivedBytes &+= UInt64(message.count)
    switch EtcdMethod(rawValue: method) {
    case .watch:
      if let watchStream = watchStreams[StreamKey(connection, stream)] {
        received(message, on: watchStream)
      }
    case .leaseKeepAlive:
      keepAliveStreams[StreamKey(connection, stream)]?.unanswered += 1
      if front.isAuthEnabled {
        keepAliveIdentified(connection, stream, message)
      } else {
        keepAlive(connection, stream, message)
      }
    case .healthWatch: watchHealth(connection, stream, message)
    default: break
    }
  }

  func grpc(_ connection: GRPCServerConnection, halfClosed stream: StreamID, method: Int) {
    // A health watch is one request followed by answers until the client cancels; and a watcher that has nothing
    // more to say goes on listening.
    switch EtcdMethod(rawValue: method) {
    case .healthWatch, .watch: return
    default: break
    }
    // Renewals that were asked for before are answered first.
    if let keepAlives = keepAliveStreams[StreamKey(connection, stream)], keepAlives.unanswered > 0 {
      keepAlives.isHalfClosed = true
      return
    }
    forget(connection, stream)
    metrics.count(EtcdMethod(rawValue: method) ?? .watch, .ok)
    connection.finish(stream, .ok)
  }

  func grpc(_ connection: GRPCServerConnection, cancelled stream: StreamID, method: Int) {
    guard let method = EtcdMethod(rawValue: method) else { return }
    metrics.count(method, .cancelled)
    if method.isStreaming {
      forget(connection, stream)
    } else if method.isCoordination {
      abandonCoordination(StreamKey(connection, stream))
    } else if method == .rangeStream {
      rangeStreams[StreamKey(connection, stream)] = nil
    }
  }

  func grpc(_ connection: GRPCServerConnection, writable stream: StreamID, method: Int) {
    let key = StreamKey(connection, stream)
    if let watchStream = watchStreams[key] {
      resume(watchStream)
    } else if let transfer = rangeStreams[key] {
      resume(transfer)
    } else {
      coordinationCalls[key]?.clientCaughtUp()
    }
  }

  func grpcReadComplete(_ connection: GRPCServerConnection) {}

  func grpcClosed(_ connection: GRPCServerConnection) {
    let identifier = ObjectIdentifier(connection)
    for (key, stream) in watchStreams where key.connection == identifier {
      end(stream)
      watchStreams[key] = nil
    }
    keepAliveStreams = keepAliveStreams.filter { $0.key.connection != identifier }
    leaderStreams = leaderStreams.filter { $0.key.connection != identifier }
    if !rangeStreams.isEmpty {
      rangeStreams = rangeStreams.filter { $0.key.connection != identifier }
    }
    if !coordinationCalls.isEmpty { abandonCoordination(of: connection) }
    connection.isFlushPending = false
  }

  /// Drops what the loop keeps of a streaming call.
  func forget(_ connection: GRPCServerConnection, _ stream: StreamID) {
    let key = StreamKey(connection, stream)
    if let watchStream = watchStreams.removeValue(forKey: key) { end(watchStream) }
    keepAliveStreams[key] = nil
    leaderStreams[key] = nil
  }
}
