import EtcdProto
import Foundation
import SwiftProtobuf

extension CtlPrinter {
  /// A key and its value, each on a line of its own.
  func simple(_ record: Mvccpb_KeyValue) {
    if !printsValuesOnly { line(shown(record.key)) }
    line(shown(record.value))
  }

  private func shown(_ bytes: Data) -> [UInt8] {
    guard isHex else { return Array(bytes) }
    return Array(bytes.map { "\\x" + GoText.hexadecimal(UInt64($0), digits: 2) }.joined().utf8)
  }

  private func fields(_ record: Mvccpb_KeyValue, prefix: String = "") {
    field(prefix + "Key", quoted: record.key)
    field(prefix + "CreateRevision", record.createRevision)
    field(prefix + "ModRevision", record.modRevision)
    field(prefix + "Version", record.version)
    field(prefix + "Value", quoted: record.value)
    field(prefix + "Lease", record.lease)
  }

  func print(_ answer: Etcdserverpb_RangeResponse) throws {
    try print(answer, fields: { self.fields(answer) }) { self.simple(answer) }
  }

  private func simple(_ answer: Etcdserverpb_RangeResponse) {
    for record in answer.kvs { simple(record) }
  }

  private func fields(_ answer: Etcdserverpb_RangeResponse) {
    header(answer.header)
    for record in answer.kvs { fields(record) }
    field("More", answer.more)
    field("Count", answer.count)
  }

  func print(_ answer: Etcdserverpb_PutResponse) throws {
    try print(answer, fields: { self.fields(answer) }) { self.simple(answer) }
  }

  private func simple(_ answer: Etcdserverpb_PutResponse) {
    line("OK")
    if answer.hasPrevKv { simple(answer.prevKv) }
  }

  private func fields(_ answer: Etcdserverpb_PutResponse) {
    header(answer.header)
    if answer.hasPrevKv { fields(answer.prevKv, prefix: "Prev") }
  }

  func print(_ answer: Etcdserverpb_DeleteRangeResponse) throws {
    try print(answer, fields: { self.fields(answer) }) { self.simple(answer) }
  }

  private func simple(_ answer: Etcdserverpb_DeleteRangeResponse) {
    line("\(answer.deleted)")
    for record in answer.prevKvs { simple(record) }
  }

  private func fields(_ answer: Etcdserverpb_DeleteRangeResponse) {
    header(answer.header)
    field("Deleted", answer.deleted)
    for record in answer.prevKvs { fields(record, prefix: "Prev") }
  }

  func print(_ answer: Etcdserverpb_TxnResponse) throws {
    try print(answer, fields: { self.fields(answer) }) {
      self.line(answer.succeeded ? "SUCCESS" : "FAILURE")
      for operation in answer.responses {
        self.line()
        switch operation.response {
        case .responseRange(let answer): self.simple(answer)
        case .responsePut(let answer): self.simple(answer)
        case .responseDeleteRange(let answer): self.simple(answer)
        case .responseTxn, nil: self.line("unexpected response")
        }
      }
    }
  }

  private func fields(_ answer: Etcdserverpb_TxnResponse) {
    header(answer.header)
    field("Succeeded", answer.succeeded)
    for operation in answer.responses {
      switch operation.response {
      case .responseRange(let answer): fields(answer)
      case .responsePut(let answer): fields(answer)
      case .responseDeleteRange(let answer): fields(answer)
      case .responseTxn, nil: field("Unknown", "\"\"")
      }
    }
  }

  /// One message of a watch. Only Go's own names stand in its JSON: etcdctl prints its client's structure.
  func print(_ answer: Etcdserverpb_WatchResponse) throws {
    switch format {
    case .simple:
      for event in answer.events {
        line(event.type == .put ? "PUT" : "DELETE")
        if event.hasPrevKv { simple(event.prevKv) }
        simple(event.kv)
      }
    case .fields:
      header(answer.header)
      for event in answer.events {
        field("Type", event.type == .put ? "PUT" : "DELETE")
        if event.hasPrevKv { fields(event.prevKv, prefix: "Prev") }
        fields(event.kv)
      }
    case .json:
      let events = try answer.events.map { try GoJSON.text($0) }
      line(
        """
        {"Header":\(try GoJSON.text(answer.header)),\
        "Events":\(events.isEmpty ? "null" : "[\(events.joined(separator: ","))]"),\
        "CompactRevision":\(answer.compactRevision),"Canceled":\(answer.canceled),\
        "Created":\(answer.created)}
        """)
    case .protobuf:
      for event in answer.events { try print(event) {} }
    case .table: throw unsupported
    }
    flush()
  }
}
