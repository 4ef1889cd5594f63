import EtcdWire
import HTTP2
import MVCC
import NIOCore
import Primitives
import Replica
import Synchronization

// What the writer delivers, and what waited for it.

extension ServerLoop {
  /// Takes what the writer delivered. Called by the sink, on the loop, once per hop.
  func received(_ replies: [Reply]) {
    for reply in replies {
      switch reply.outcome {
      case .applied(let result, let term): applied(reply.token, result, term)
      case .readable(let view, let term): readable(reply.token, view, term)
      case .leaseTime(let time): answerLease(reply.token, time)
      case .watching(let id, let after): watching(reply.token, id, after: after)
      case .watchBehind(let view): watchBehind(reply.token, view)
      case .watchCompacted(let revision): watchCompacted(reply.token, revision)
      case .watchesLost(let revision): watchesLost(compacted: revision)
      case .events(let deliveries): for delivery in deliveries { deliver(delivery) }
      case .progress(let revision): progressed(reply.token, revision)
      case .failed(let error): failed(reply.token, error)
      case .done: changed(reply.token)
      case .exported(let export): exported(reply.token, export)
      case .leaderChanged: break
      }
    }
    flush()
  }

  private func applied(_ token: UInt64, _ result: CommandResult, _ term: Term) {
    guard let call = take(token), let connection = call.connection else { return }
    setHeader(result.revision, term)
    if case .login(let login) = call.purpose, case .error(.oldAuthRevision) = result.body {
      return logInAgain(login, connection, call.stream)
    }
    if case .physicalCompaction(let revision) = call.purpose, case .empty = result.body {
      return awaitCompaction(connection, call.stream, revision, header)
    }
    switch result.body {
    case .empty: respond(connection, call.stream, call.method, [])
    case .encoded(let bytes): respond(connection, call.stream, call.method, bytes)
    case .error(let error): fail(connection, call.stream, call.method, GRPCStatus(error))
    }
  }

  private func readable(_ token: UInt64, _ view: StoreView, _ term: Term) {
    guard let call = take(token) else { return }
    switch call.purpose {
    case .readGroup(let group): answer(group, from: view, term)
    case .memberList:
      if let connection = call.connection { sendMembers(connection, call.stream, view, term) }
    case .alarmList(let kind):
      if let connection = call.connection {
        let alarms = front.status.alarms.filter { kind == nil || $0.kind == kind }
        sendAlarms(connection, call.stream, alarms)
      }
    case .heldCall(let held):
      if let connection = call.connection { release(held, connection, call.stream) }
    case .heldStream(let stream): release(stream)
    case .authQuestion(let question):
      if let connection = call.connection {
        answer(question, connection, call.stream, call.method, from: view, term)
      }
    default: break
    }
  }

  private func answerLease(_ token: UInt64, _ time: LeaseTime?) {
    guard let call = take(token), let connection = call.connection else { return }
    switch call.purpose {
    case .keepAlive(let id): sendKeepAlive(connection, call.stream, id, time)
    case .leaseTimeToLive(let id, let wantsKeys, let caller):
      sendTimeToLive(connection, call.stream, id, time, wantsKeys: wantsKeys, caller)
    default: break
    }
  }

  private func failed(_ token: UInt64, _ error: ReplicaError) {
    guard let call = take(token) else { return }
    switch call.purpose {
    case .readGroup(let group):
      for read in group.reads { fail(read.connection, read.stream, read.method, GRPCStatus(error)) }
    case .watch(let watch): watchFailed(watch, error)
    case .keepAlive(let id) where error == .leaseNotFound:
      if let connection = call.connection { sendKeepAlive(connection, call.stream, id, nil) }
    case .leaseTimeToLive(let id, let wantsKeys, let caller) where error == .leaseNotFound:
      if let connection = call.connection {
        sendTimeToLive(connection, call.stream, id, nil, wantsKeys: wantsKeys, caller)
      }
    case .keepAlive:
      if let connection = call.connection {
        forget(connection, call.stream)
        fail(connection, call.stream, .leaseKeepAlive, GRPCStatus(error))
      }
    case .progress(let stream): stream.isProgressAsked = false
    case .heldStream(let stream): release(stream)
    default:
      if let connection = call.connection {
        fail(connection, call.stream, call.method, GRPCStatus(error))
      }
    }
  }

  /// The token's purpose, for the answers to watches.
  func takeWatch(_ token: UInt64) -> Watch? {
    guard let call = take(token), case .watch(let watch) = call.purpose else { return nil }
    return watch
  }

  func takePurpose(_ token: UInt64) -> Purpose { take(token)?.purpose ?? .free }
}
