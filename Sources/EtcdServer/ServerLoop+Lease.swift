import EtcdWire
import HTTP2
import MVCC
import Primitives
import Replica

// The Lease service. Grants and revocations go through the log; time is the leader's.

extension ServerLoop {
  func leaseGrant(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ message: UnsafeRawBufferPointer
  ) {
    do throws(WireError) {
      let request = try LeaseGrantRequest(message)
      if let error = request.check() {
        fail(connection, stream, .leaseGrant, error)
        return
      }
      let id = request.id == 0 ? chooseLeaseID() : LeaseID(request.id)
      let seconds = settings.minimumLeaseSeconds
      if isAuthOn {
        var extra: [UInt8] = []
        extra.append(littleEndian: id.rawValue)
        extra.append(littleEndian: seconds)
        request.encoded().withUnsafeBytes {
          proposeIdentified(.leaseGrant, connection, stream, .leaseGrant, extra: extra, $0)
        }
        return
      }
      if request.hasUnknownFields {
        request.encoded().withUnsafeBytes {
          CommandBatch.appendLeaseGrant(id: id, minimumSeconds: seconds, body: $0, to: &commands)
        }
      } else {
        CommandBatch.appendLeaseGrant(
          id: id, minimumSeconds: seconds, body: message, to: &commands)
      }
      tokens.append(reserve(.command, connection, stream, .leaseGrant))
      scheduleTurnEnd()
    } catch {
      fail(connection, stream, .leaseGrant, GRPCStatus(error))
    }
  }

  func leaseRevoke(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ message: UnsafeRawBufferPointer
  ) {
    do throws(WireError) {
      let request = try LeaseRevokeRequest(message)
      propose(.leaseRevoke, connection, stream, .leaseRevoke, message, request)
    } catch {
      fail(connection, stream, .leaseRevoke, GRPCStatus(error))
    }
  }

  func leaseTimeToLive(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ message: UnsafeRawBufferPointer
  ) {
    do throws(WireError) {
      let request = try LeaseTimeToLiveRequest(message)
      let id = LeaseID(request.id)
      if isAuthOn, request.wantsKeys {
        do throws(ApplyError) { try front.view.authorizeKeys(of: id, caller) } catch {
          fail(connection, stream, .leaseTimeToLive, GRPCStatus(error))
          return
        }
      }
      let token = reserve(
        .leaseTimeToLive(id, wantsKeys: request.wantsKeys, caller), connection, stream, .leaseTimeToLive)
      front.leaseTime(lease: id, token: token, sink: sink)
    } catch {
      fail(connection, stream, .leaseTimeToLive, GRPCStatus(error))
    }
  }

  func sendTimeToLive(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ id: LeaseID, _ time: LeaseTime?,
    wantsKeys: Bool, _ caller: AuthCaller?
  ) {
    let view = front.view
    if wantsKeys, view.isAuthEnabled {
      // Other keys may have been attached since the question came.
      do throws(ApplyError) { try view.authorizeKeys(of: id, caller) } catch {
        fail(connection, stream, .leaseTimeToLive, GRPCStatus(error))
        return
      }
    }
    setHeader(view.revision, front.status.term)
    body.removeAll(keepingCapacity: true)
    body.append(field: 2, int64: id.rawValue)
    body.append(field: 3, int64: time?.remaining ?? -1)
    if let time {
      body.append(field: 4, int64: time.granted)
      if wantsKeys {
        for key in view.keys(of: id) {
          key.withUnsafeBytes { LeaseTimeToLiveResponse.append(key: $0, to: &body) }
        }
      }
    }
    respond(connection, stream, .leaseTimeToLive, body)
  }

  func leaseLeases(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ message: UnsafeRawBufferPointer
  ) {
    let view = currentView()
    if view.isAuthEnabled {
      do throws(ApplyError) { try view.authorizeLeaseList(caller) } catch {
        fail(connection, stream, .leaseLeases, GRPCStatus(error))
        return
      }
    }
    setHeader(view.revision, front.status.term)
    body.removeAll(keepingCapacity: true)
    for lease in view.leases() {
      body.append(field: 2, message: EtcdWire.LeaseStatus(id: lease.id.rawValue))
    }
    respond(connection, stream, .leaseLeases, body)
  }

  // MARK: LeaseKeepAlive

  func keepAlive(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ message: UnsafeRawBufferPointer
  ) {
    do throws(WireError) {
      let id = LeaseID(try LeaseKeepAliveRequest(message).id)
      let token = reserve(.keepAlive(id), connection, stream, .leaseKeepAlive)
      front.keepAlive(lease: id, token: token, sink: sink)
    } catch {
      fail(connection, stream, .leaseKeepAlive, GRPCStatus(error))
    }
  }

  /// Renews a lease while authentication is on: whoever may write all of its keys.
  func keepAliveIdentified(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ message: UnsafeRawBufferPointer
  ) {
    let credential = connection.eventCredential
    let identity = identify(connection, credential)
    if case .unknownYet = identity {
      let held = HeldCall(
        method: .leaseKeepAlive, credential: credential, message: Array(message))
      front.requestRead(
        token: reserve(.heldCall(held), connection, stream, .leaseKeepAlive), sink: sink)
    } else {
      keepAlive(connection, stream, message, as: identity)
    }
  }

  func keepAlive(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ message: UnsafeRawBufferPointer,
    as identity: Identity
  ) {
    var caller: AuthCaller?
    if case .user(let user) = identity { caller = user }
    do throws(WireError) {
      let id = LeaseID(try LeaseKeepAliveRequest(message).id)
      var status: GRPCStatus?
      switch identity {
      case .invalid, .unknownYet: status = GRPCStatus(EtcdError.invalidAuthToken)
      case .nobody, .user:
        do throws(ApplyError) { try front.view.authorizeRenewal(of: id, caller) } catch {
          status = GRPCStatus(error)
        }
      }
      guard let status else { return keepAlive(connection, stream, message) }
      forget(connection, stream)
      fail(connection, stream, .leaseKeepAlive, status)
    } catch {
      fail(connection, stream, .leaseKeepAlive, GRPCStatus(error))
    }
  }

  /// A renewed lease has its whole time again; none is left of one that is gone.
  func sendKeepAlive(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ id: LeaseID, _ time: LeaseTime?
  ) {
    setHeader(front.view.revision, front.status.term)
    header.append(field: 2, int64: id.rawValue)
    header.append(field: 3, int64: time?.granted ?? 0)
    header.withUnsafeBytes { _ = connection.send(stream, $0) }
    noteUnflushed(connection)
    guard let keepAlives = keepAliveStreams[StreamKey(connection, stream)] else { return }
    keepAlives.unanswered -= 1
    if keepAlives.isHalfClosed, keepAlives.unanswered == 0 {
      forget(connection, stream)
      metrics.count(.leaseKeepAlive, .ok)
      connection.finish(stream, .ok)
    }
  }
}

/// A LeaseKeepAlive call.
final class KeepAliveStream {
  let connection: GRPCServerConnection
  /// Renewals on their way.
  var unanswered = 0
  /// The client asks no more; the call ends with its last answer.
  var isHalfClosed = false

  init(_ connection: GRPCServerConnection) { self.connection = connection }
}
