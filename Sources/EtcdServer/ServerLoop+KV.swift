import EtcdWire
import HTTP2
import MVCC
import NIOCore
import Primitives
import Replica

/// Linearizable reads that one answer of the replica serves.
struct ReadGroup {
  struct Read {
    var connection: GRPCServerConnection
    var stream: StreamID
    var method: EtcdMethod
    /// Who asks, if anybody wanted to know when the request came.
    var caller: AuthCaller?
    /// Where the request is in the group's bytes.
    var request: Range<Int>
  }
  var reads: [Read] = []
  private(set) var bytes: [UInt8] = []

  var isEmpty: Bool { reads.isEmpty }

  mutating func append(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod,
    _ request: UnsafeRawBufferPointer, _ caller: AuthCaller?
  ) {
    let start = bytes.count
    bytes.append(contentsOf: request)
    reads.append(
      Read(
        connection: connection, stream: stream, method: method, caller: caller,
        request: start..<bytes.count))
  }
}

// The KV service: Range, Put, DeleteRange, Txn, Compact.

extension ServerLoop {
  func range(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ message: UnsafeRawBufferPointer
  ) {
    do throws(WireError) {
      let request = try RangeRequest(message)
      if let error = request.check() {
        fail(connection, stream, .range, error)
      } else if request.serializable {
        answer(
          request, connection, stream, from: currentView(), front.status.term, caller)
      } else {
        group.append(connection, stream, .range, message, caller)
        scheduleTurnEnd()
      }
    } catch {
      fail(connection, stream, .range, GRPCStatus(error))
    }
  }

  func put(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ message: UnsafeRawBufferPointer
  ) {
    do throws(WireError) {
      let request = try PutRequest(message)
      if let error = request.check() {
        fail(connection, stream, .put, error)
      } else if crossesQuota(message) {
        refuseForQuota(connection, stream, .put)
      } else {
        propose(.put, connection, stream, .put, message, request)
      }
    } catch {
      fail(connection, stream, .put, GRPCStatus(error))
    }
  }

  func deleteRange(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ message: UnsafeRawBufferPointer
  ) {
    do throws(WireError) {
      let request = try DeleteRangeRequest(message)
      if let error = request.check() {
        fail(connection, stream, .deleteRange, error)
      } else {
        propose(.deleteRange, connection, stream, .deleteRange, message, request)
      }
    } catch {
      fail(connection, stream, .deleteRange, GRPCStatus(error))
    }
  }

  func transaction(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ message: UnsafeRawBufferPointer
  ) {
    do throws(WireError) {
      let request = try TxnRequest(message)
      if let error = request.check(maximumOperations: settings.maxTxnOperations) {
        fail(connection, stream, .txn, error)
      } else if !StoreView.isReadOnly(request) {
        if crossesQuota(message), request.hasPuts {
          return refuseForQuota(connection, stream, .txn)
        }
        propose(.txn, connection, stream, .txn, message, request)
      } else if request.isSerializable {
        answer(
          request, connection, stream, from: currentView(), front.status.term, caller)
      } else {
        group.append(connection, stream, .txn, message, caller)
        scheduleTurnEnd()
      }
    } catch {
      fail(connection, stream, .txn, GRPCStatus(error))
    }
  }

  func compact(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ message: UnsafeRawBufferPointer
  ) {
    do throws(WireError) {
      let request = try CompactionRequest(message)
      propose(
        .compact, connection, stream, .compact, message, request,
        as: request.physical ? .physicalCompaction(Revision(request.revision)) : .command)
    } catch {
      fail(connection, stream, .compact, GRPCStatus(error))
    }
  }

  /// Adds a request to the turn's batch, in the form that goes to the log.
  @inline(__always)
  func propose(
    _ kind: CommandKind, _ connection: GRPCServerConnection, _ stream: StreamID,
    _ method: EtcdMethod, _ message: UnsafeRawBufferPointer, _ request: some WireMessage,
    as purpose: Purpose = .command
  ) {
    if isAuthOn {
      let canonical = request.hasUnknownFields ? request.encoded() : Array(message)
      canonical.withUnsafeBytes {
        proposeIdentified(kind, connection, stream, method, $0, as: purpose)
      }
      return
    }
    if request.hasUnknownFields {
      request.encoded().withUnsafeBytes { CommandBatch.append(kind, body: $0, to: &commands) }
    } else {
      CommandBatch.append(kind, body: message, to: &commands)
    }
    tokens.append(reserve(purpose, connection, stream, method))
    if commands.count >= EtcdServerLimits.batchBytes { submit() }
    scheduleTurnEnd()
  }

  // MARK: Compaction

  /// Answers a compaction, whose result is in `header`, when what it made unreadable is gone from this member.
  func awaitCompaction(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ revision: Revision,
    _ answer: [UInt8]
  ) {
    if front.status.physicallyCompacted >= revision {
      header = answer
      respond(connection, stream, .compact, [])
    } else if connection.isOpen(stream) {
      let bound = NIOLoopBound((self, connection), eventLoop: eventLoop)
      eventLoop.scheduleTask(in: .milliseconds(10)) {
        bound.value.0.awaitCompaction(bound.value.1, stream, revision, answer)
      }
    }
  }

  // MARK: The quota

  /// Whether the state would outgrow its quota by what a request brings.
  @inline(__always)
  private func crossesQuota(_ message: UnsafeRawBufferPointer) -> Bool {
    UInt64(message.count) >= front.quotaLeft
  }

  /// Refuses a write that the quota has no room for, and says so to the cluster, as etcd does.
  private func refuseForQuota(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod
  ) {
    fail(connection, stream, method, EtcdError.noSpace)
    if front.restrictions.contains(.noSpace) { return }
    let command = ClusterCommand.setAlarm(
      Alarm(.noSpace, member: front.identity.member), isActive: true, isAutomatic: true)
    front.change(command, token: reserve(.change(command, [])), sink: sink)
  }

  // MARK: Reads

  /// Answers the reads of a group, all from one view.
  func answer(_ group: ReadGroup, from view: StoreView, _ term: Term) {
    group.bytes.withUnsafeBytes { bytes in
      for read in group.reads {
        guard read.connection.isOpen(read.stream) else { continue }
        let message = UnsafeRawBufferPointer(rebasing: bytes[read.request])
        do throws(WireError) {
          // The bytes were checked when they came.
          switch read.method {
          case .range:
            answer(
              try RangeRequest(message), read.connection, read.stream, from: view, term,
              read.caller)
          case .rangeStream:
            startRange(
              try RangeRequest(message), read.connection, read.stream, from: view, term,
              read.caller)
          default:
            answer(
              try TxnRequest(message), read.connection, read.stream, from: view, term,
              read.caller)
          }
        } catch {
          fail(read.connection, read.stream, read.method, GRPCStatus(error))
        }
      }
    }
  }

  private func answer(
    _ request: RangeRequest, _ connection: GRPCServerConnection, _ stream: StreamID,
    from view: StoreView, _ term: Term, _ caller: AuthCaller?
  ) {
    do throws(ApplyError) {
      if view.isAuthEnabled { try view.authorize(request, caller) }
      body.removeAll(keepingCapacity: body.capacity <= 1 << 20)
      try view.range(request, into: &body)
      setHeader(view.revision, term)
      respond(connection, stream, .range, body)
    } catch {
      fail(connection, stream, .range, GRPCStatus(error))
    }
  }

  private func answer(
    _ request: TxnRequest, _ connection: GRPCServerConnection, _ stream: StreamID,
    from view: StoreView, _ term: Term, _ caller: AuthCaller?
  ) {
    do throws(ApplyError) {
      if view.isAuthEnabled { try view.authorize(request, caller) }
      body.removeAll(keepingCapacity: body.capacity <= 1 << 20)
      try view.transaction(request, into: &body)
      setHeader(view.revision, term)
      respond(connection, stream, .txn, body)
    } catch {
      fail(connection, stream, .txn, GRPCStatus(error))
    }
  }
}

extension TxnRequest {
  /// Whether every read in a read-only transaction may be answered from this member's own state.
  fileprivate var isSerializable: Bool {
    for list in [success, failure] {
      for operation in list {
        switch operation.request {
        case .range(let range) where range.serializable: continue
        case .txn(let inner) where inner.isSerializable: continue
        default: return false
        }
      }
    }
    return true
  }
}
