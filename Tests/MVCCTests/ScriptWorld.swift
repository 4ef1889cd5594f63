import EtcdWire
import MVCC
import Primitives
import TestKit

/// A store that is driven by the commands of golden transcripts, one log entry a command.
final class ScriptWorld {
  var store = Store()
  var registry = WatchRegistry()
  var names: [WatcherID: String] = [:]
  var index = LogIndex.zero
  var term = Term(1)
  /// On whose behalf the command at hand is, by which auth revision (nil: the newest).
  var user: String?
  var authRevision: UInt64?
  /// Views that a transcript keeps, by name.
  var views: [String: StoreView] = [:]

  func perform(_ command: GoldenCommand) throws -> String {
    let words = Words(command)
    user = words.flag("as") ? words.text("as") : nil
    authRevision = words.flag("at") ? UInt64(words.number("at")) : nil
    switch command.name {
    case "put": return apply(.put, words.put().encoded())
    case "del": return apply(.deleteRange, words.deleteRange().encoded())
    case "get": return read(words)
    case "txn": return apply(.txn, try Script(command.input).txn())
    case "read-txn":
      let bytes = try Script(command.input).txn()
      return bytes.withUnsafeBytes { bytes in
        guard let request = try? TxnRequest(bytes) else { return "malformed" }
        guard StoreView.isReadOnly(request) else { return "not read-only" }
        var output: [UInt8] = []
        do throws(ApplyError) {
          try store.publish().transaction(request, into: &output)
          return Printer.txn(output)
        } catch { return "error: \(error)" }
      }
    case "compact":
      var request = CompactionRequest()
      request.revision = words.number("rev")
      return apply(.compact, request.encoded())
    case "maintain":
      _ = store.publish()
      while store.runMaintenance(budget: words.flag("slice") ? 1 : 1000) {}
      store.validate()
      return store.isCompactionFinished ? "finished" : "unfinished"
    case "grant":
      var request = LeaseGrantRequest()
      request.timeToLive = words.number("ttl")
      var commands: [UInt8] = []
      request.encoded().withUnsafeBytes {
        CommandBatch.appendLeaseGrant(
          id: LeaseID(words.number("id")), minimumSeconds: 2, body: $0, to: &commands)
      }
      return apply(encoded: commands, .leaseGrant)
    case "revoke":
      var request = LeaseRevokeRequest()
      request.id = words.number("id")
      return apply(.leaseRevoke, request.encoded())
    case "expire":
      var commands: [UInt8] = []
      CommandBatch.appendLeaseExpire(
        term: Term(UInt64(words.number("term"))),
        leases: words.list("ids").map { LeaseID($0) }, to: &commands)
      return apply(encoded: commands, .leaseExpire)
    case "checkpoint":
      var commands: [UInt8] = []
      CommandBatch.appendLeaseCheckpoint(
        [(LeaseID(words.number("id")), words.number("remaining"))], to: &commands)
      return apply(encoded: commands, .leaseCheckpoint)
    case "leases":
      let view = store.publish()
      return view.leases().map { lease in
        let keys = view.keys(of: lease.id).map { Printer.text($0) }.joined(separator: " ")
        return "lease \(lease.id.rawValue) granted=\(lease.granted) remaining=\(lease.remaining)"
          + " keys=[\(keys)]"
      }.joined(separator: "\n")
    case "watch":
      let id = registry.register(
        WatchRange(key: words.bytes("key"), rangeEnd: words.end()), filter: words.filter(),
        wantsPrevious: words.flag("prev"))
      names[id] = words.text("name")
      return ""
    case "unwatch":
      for (id, name) in names where name == words.text("name") { registry.cancel(id) }
      return ""
    case "events": return events(words)
    case "keep":
      views[words.text("name")] = store.publish()
      return ""
    case "restore":
      let restored = try restore(snapshot(store.publish()))
      restored.validate()
      let isSame = restored.stateHash == store.stateHash && restored.revision == store.revision
      store = restored
      return isSame ? "revision \(store.revision)" : "another state"
    case "auth": return try applyAuth(words)
    case "users": return Printer.auth(store.publish().auth)
    case "kind":
      return apply(CommandKind(rawValue: UInt8(words.number("kind"))), [])
    default: throw ScriptError(message: "unknown command \(command.name)")
    }
  }

  // MARK: Applying

  func apply(_ kind: CommandKind, _ body: [UInt8]) -> String {
    var commands: [UInt8] = []
    body.withUnsafeBytes { body in
      guard let user else { return CommandBatch.append(kind, body: body, to: &commands) }
      Array(user.utf8).withUnsafeBytes { user in
        CommandBatch.append(
          kind, extra: UnsafeRawBufferPointer(start: nil, count: 0),
          authorization: CommandBatch.Authorization(
            revision: authRevision ?? store.publish().auth.revision, user: user),
          body: body, to: &commands)
      }
    }
    return apply(encoded: commands, kind)
  }

  private func applyAuth(_ words: Words) throws -> String {
    let (name, role) = (words.bytes("user"), words.bytes("role"))
    let command: AuthCommand
    if words.flag("enable") {
      command = .enable
    } else if words.flag("disable") {
      command = .disable
    } else if words.flag("login") {
      command = .authenticate(
        user: name, tokenPrefix: Array("token".utf8),
        revision: words.flag("checked")
          ? UInt64(words.number("checked")) : store.publish().auth.revision)
    } else if words.flag("add-user") {
      command = .addUser(
        name: name, passwordHash: words.bytes("hash"), hasNoPassword: words.flag("no-password"))
    } else if words.flag("delete-user") {
      command = .deleteUser(name: name)
    } else if words.flag("password") {
      command = .changePassword(name: name, passwordHash: words.bytes("hash"))
    } else if words.flag("grant-role") {
      command = .grantRole(user: name, role: role)
    } else if words.flag("revoke-role") {
      command = .revokeRole(user: name, role: role)
    } else if words.flag("add-role") {
      command = .addRole(name: role)
    } else if words.flag("delete-role") {
      command = .deleteRole(name: role)
    } else if words.flag("grant") {
      let kinds: [String: AuthPermission.Kind] = [
        "read": .read, "write": .write, "readwrite": .readWrite,
      ]
      command = .grantPermission(
        role: role,
        AuthPermission(
          kind: kinds[words.text("grant")] ?? .read, key: words.bytes("key"),
          rangeEnd: words.end()))
    } else if words.flag("revoke") {
      command = .revokePermission(role: role, key: words.bytes("key"), rangeEnd: words.end())
    } else {
      throw ScriptError(message: "auth does what?")
    }
    return apply(.auth, command.encoded())
  }

  func apply(encoded commands: [UInt8], _ kind: CommandKind) -> String {
    index = index.next
    let payload = batch(commands, count: 1)
    let applied = store.apply(payload, at: index, term: term, wantsResults: true)
    let view = store.publish()
    var lines = [Printer.result(applied.results[0], kind)]
    for effect in applied.leaseEffects {
      switch effect {
      case .granted(let id, let seconds): lines.append("granted \(id.rawValue) for \(seconds) s")
      case .revoked(let id): lines.append("revoked \(id.rawValue)")
      case .checkpointed(let id, let remaining):
        lines.append("checkpointed \(id.rawValue) at \(remaining) s")
      }
    }
    for effect in applied.authEffects {
      switch effect {
      case .tokenAssigned(let token, let user):
        lines.append("token \(Printer.text(token)) is \(Printer.text(user))")
      case .userInvalidated(let user): lines.append("tokens of \(Printer.text(user)) are void")
      case .allInvalidated: lines.append("all tokens are void")
      }
    }
    for delivery in registry.match(applied.events, in: view) {
      let watchers = delivery.watchers.map { names[$0] ?? "?" }.joined(separator: ",")
      lines += Printer.events(delivery.events).map { "\(watchers): \($0)" }
    }
    return lines.joined(separator: "\n")
  }

  // MARK: Reading

  private func read(_ words: Words) -> String {
    let view = views[words.text("view")] ?? store.publish()
    return words.range().encoded().withUnsafeBytes { bytes in
      guard let request = try? RangeRequest(bytes) else { return "malformed" }
      if words.flag("paged") { return readPaged(view, request, words) }
      var output: [UInt8] = []
      do throws(ApplyError) {
        try view.authorize(
          request, user.map { AuthCaller(user: Array($0.utf8), revision: authRevision) })
        try view.range(request, into: &output)
        return Printer.range(output)
      } catch { return "error: \(error)" }
    }
  }

  private func readPaged(_ view: StoreView, _ request: RangeRequest, _ words: Words) -> String {
    do throws(ApplyError) {
      var pager = try view.pager(request)
      var lines: [String] = []
      while true {
        var piece: [UInt8] = []
        let hasMore = pager.next(byteLimit: Int(words.number("bytes")), into: &piece)
        lines.append("piece\n" + Printer.range(piece))
        if !hasMore { return lines.joined(separator: "\n") }
      }
    } catch { return "error: \(error)" }
  }

  private func events(_ words: Words) -> String {
    let view = store.publish()
    do throws(ApplyError) {
      let run = try view.events(
        from: Revision(words.number("from")), through: Revision(words.number("through", or: .max)),
        in: WatchRange(key: words.bytes("key"), rangeEnd: words.end()), filter: words.filter(),
        wantsPrevious: words.flag("prev"), byteLimit: Int(words.number("bytes", or: 1 << 20)),
        eventLimit: Int(words.number("events", or: 1 << 20)))
      return (Printer.events(run) + ["through \(run.through)"]).joined(separator: "\n")
    } catch { return "error: \(error)" }
  }
}

struct ScriptError: Error {
  var message: String
}

/// A batch of encoded commands, as member 7 would propose it.
func batch(_ commands: [UInt8], count: UInt32) -> [UInt8] {
  var payload: [UInt8] = []
  CommandBatch.Header(count: count, proposer: NodeID(7), firstSequence: 1).append(to: &payload)
  return payload + commands
}

func snapshot(_ view: StoreView) -> [[UInt8]] {
  var source = view.snapshot()
  var chunks: [[UInt8]] = []
  while let chunk = source.next() { chunks.append(chunk) }
  return chunks
}

func restore(_ chunks: [[UInt8]]) throws(SnapshotError) -> Store {
  var restorer = StoreRestorer()
  for chunk in chunks { try restorer.restore(chunk) }
  return try restorer.finish()
}
