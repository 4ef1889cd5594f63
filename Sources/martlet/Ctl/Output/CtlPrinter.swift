import EtcdProto
import Foundation
import SwiftProtobuf

/// Prints answers in the form that `--write-out` asks for.
///
/// `json` and `protobuf` are the message as such; the others are forms of each command's own, in the extensions.
final class CtlPrinter {
  enum Format: String {
    case simple, fields, json, protobuf, table
  }

  let format: Format
  let isHex: Bool
  /// `--print-value-only`
  var printsValuesOnly = false
  private var pending: [UInt8] = []

  init(_ format: Format, isHex: Bool) {
    self.format = format
    self.isHex = isHex
  }

  /// Prints an answer for which only the simple form and the message itself make sense.
  ///
  /// - Parameter fields: as `fields` prints it; nil where etcdctl has no such form.
  func print(
    _ message: any Message, fields: (() -> Void)? = nil, table: (() throws -> TextTable)? = nil,
    simple: () -> Void
  ) throws {
    switch format {
    case .simple: simple()
    case .json: line(try GoJSON.text(message))
    case .protobuf: pending += try message.serializedBytes() as [UInt8]
    case .fields:
      guard let fields else { throw unsupported }
      fields()
    case .table:
      guard let table else { throw unsupported }
      line(try table().text)
    }
    flush()
  }

  var unsupported: CtlFailure {
    CtlFailure(.badFeature, "\(format.rawValue) not supported as output format")
  }

  // MARK: Lines

  func line(_ text: String = "") { pending += Array((text + "\n").utf8) }

  func line(_ bytes: some Sequence<UInt8>) {
    pending += bytes
    pending.append(0x0A)
  }

  func field(_ name: String, _ value: some CustomStringConvertible) {
    line("\"\(name)\" : \(value)")
  }

  func field(_ name: String, quoted bytes: Data) { line("\"\(name)\" : \(GoText.quoted(bytes))") }
  func field(_ name: String, quoted text: String) { line("\"\(name)\" : \(GoText.quoted(text))") }

  func flush() {
    CtlOutput.write(pending)
    pending = []
  }

  func header(_ header: Etcdserverpb_ResponseHeader) {
    field("ClusterID", header.clusterID)
    field("MemberID", header.memberID)
    field("Revision", header.revision)
    field("RaftTerm", header.raftTerm)
  }
}
