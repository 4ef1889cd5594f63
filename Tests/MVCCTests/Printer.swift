import EtcdWire
import MVCC

/// Prints results as golden transcripts show them.
enum Printer {
  static func text(_ bytes: some Sequence<UInt8>) -> String {
    String(decoding: Array(bytes), as: UTF8.self).replacing("\0", with: "\\0")
  }

  static func record(_ record: KeyValue) -> String {
    var text = "\(text(record.key))"
    if !record.value.isEmpty { text += "=\(self.text(record.value))" }
    text += " create=\(record.createRevision) mod=\(record.modRevision)"
    text += " version=\(record.version)"
    if record.lease != 0 { text += " lease=\(record.lease)" }
    return text
  }

  static func result(_ result: CommandResult, _ kind: CommandKind) -> String {
    switch result.body {
    case .empty: return "revision \(result.revision)"
    case .error(let error): return "error: \(error)"
    case .encoded(let bytes):
      var lines = ["revision \(result.revision)"]
      bytes.withUnsafeBytes { bytes in
        switch kind {
        case .put:
          if let response = try? PutResponse(bytes), let previous = response.previous {
            lines.append("previous \(record(previous))")
          }
        case .deleteRange:
          if let response = try? DeleteRangeResponse(bytes) {
            lines += deleted(response)
          }
        case .leaseGrant:
          if let response = try? LeaseGrantResponse(bytes) {
            lines.append("lease \(response.id) ttl=\(response.timeToLive)")
          }
        case .txn: lines.append(txn(bytes))
        case .auth: break
        default: lines.append("? \(bytes.count) bytes")
        }
      }
      return lines.joined(separator: "\n")
    }
  }

  static func auth(_ state: AuthState) -> String {
    var lines = ["\(state.isEnabled ? "on" : "off") revision \(state.revision)"]
    for user in state.users {
      var line = "user \(text(user.name))"
      if user.hasNoPassword { line += " without password" }
      if !user.passwordHash.isEmpty { line += " \(text(user.passwordHash))" }
      if !user.roles.isEmpty { line += ": " + user.roles.map { text($0) }.joined(separator: " ") }
      lines.append(line)
    }
    for role in state.roles {
      lines.append("role \(text(role.name))")
      for permission in role.permissions {
        var line = "  \(permission.kind) \(text(permission.key))"
        if !permission.rangeEnd.isEmpty { line += " \(text(permission.rangeEnd))" }
        lines.append(line)
      }
    }
    return lines.joined(separator: "\n")
  }

  static func range(_ bytes: [UInt8]) -> String {
    bytes.withUnsafeBytes { bytes in
      guard let response = try? RangeResponse(bytes) else { return "malformed response" }
      return range(response).joined(separator: "\n")
    }
  }

  static func range(_ response: RangeResponse) -> [String] {
    var lines = response.keyValues.map { record($0) }
    lines.append("count \(response.count)\(response.more ? ", more" : "")")
    return lines
  }

  static func deleted(_ response: DeleteRangeResponse) -> [String] {
    ["deleted \(response.deleted)"] + response.previous.map { "previous \(record($0))" }
  }

  static func txn(_ bytes: [UInt8]) -> String { bytes.withUnsafeBytes { txn($0) } }

  static func txn(_ bytes: UnsafeRawBufferPointer) -> String {
    guard let response = try? TxnResponse(bytes) else { return "malformed response" }
    return txn(response).joined(separator: "\n")
  }

  static func txn(_ response: TxnResponse) -> [String] {
    var lines = [response.succeeded ? "succeeded" : "failed"]
    for operation in response.responses {
      switch operation.response {
      case .none: lines.append("nothing")
      case .range(let range):
        lines.append("get\(header(range.header))")
        lines += Printer.range(range).map { "  \($0)" }
      case .put(let put):
        lines.append("put\(header(put.header))")
        if let previous = put.previous { lines.append("  previous \(record(previous))") }
      case .deleteRange(let deleteRange):
        lines.append("del\(header(deleteRange.header))")
        lines += deleted(deleteRange).map { "  \($0)" }
      case .txn(let nested):
        lines.append("txn\(header(nested.header))")
        lines += txn(nested).map { "  \($0)" }
      }
    }
    return lines
  }

  private static func header(_ header: ResponseHeader?) -> String {
    header.map { " revision=\($0.revision)" } ?? " without header"
  }

  static func events(_ run: EventRun) -> [String] {
    run.parts.flatMap { part -> [String] in
      let bytes = Array(run.bytes[part.range])
      let events = bytes.withUnsafeBytes { bytes -> [String] in
        guard let response = try? WatchResponse(bytes) else { return ["malformed event"] }
        return response.events.map { event in
          var text = event.kind == .delete ? "DELETE" : "PUT"
          if let keyValue = event.keyValue { text += " \(record(keyValue))" }
          if let previous = event.previous { text += " (was \(record(previous)))" }
          return text
        }
      }
      return events.count == part.count ? events : events + ["instead of \(part.count) events"]
    }
  }
}
