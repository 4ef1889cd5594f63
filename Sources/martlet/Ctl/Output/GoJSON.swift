import EtcdProto
import Foundation
import SwiftProtobuf

/// Messages in the JSON that Go's encoder makes of etcd's types, as etcdctl prints it: fields by their names in
/// the protos, numbers as numbers, empty fields left out.
enum GoJSON {
  static func text(_ message: any Message) throws -> String {
    if let txn = message as? Etcdserverpb_TxnResponse { return try text(txn) }
    var options = JSONEncodingOptions()
    options.alwaysPrintInt64sAsNumbers = true
    options.alwaysPrintEnumsAsInts = true
    options.preserveProtoFieldNames = true
    return escaped(try message.jsonString(options: options))
  }

  /// A transaction's answers stand in a structure of their own.
  private static func text(_ txn: Etcdserverpb_TxnResponse) throws -> String {
    var parts: [String] = []
    if txn.hasHeader { parts.append("\"header\":\(try text(txn.header))") }
    if txn.succeeded { parts.append("\"succeeded\":true") }
    if !txn.responses.isEmpty {
      let responses = try txn.responses.map { operation in
        let (name, body): (String, String) =
          switch operation.response {
          case .responseRange(let response): ("response_range", try text(response))
          case .responsePut(let response): ("response_put", try text(response))
          case .responseDeleteRange(let response): ("response_delete_range", try text(response))
          case .responseTxn(let response): ("response_txn", try text(response))
          case nil: ("", "")
          }
        return name.isEmpty ? #"{"Response":null}"# : #"{"Response":{"\#(name)":\#(body)}}"#
      }
      parts.append("\"responses\":[\(responses.joined(separator: ","))]")
    }
    return "{\(parts.joined(separator: ","))}"
  }

  /// The fields of a header, without the braces around them.
  static func headerFields(_ header: Etcdserverpb_ResponseHeader) throws -> String {
    String(try text(header).dropFirst().dropLast())
  }

  static func string(_ text: String) -> String {
    var quoted = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": quoted += "\\\""
      case "\\": quoted += "\\\\"
      case "\n": quoted += "\\n"
      case "\r": quoted += "\\r"
      case "\t": quoted += "\\t"
      default:
        if scalar.value < 0x20 {
          quoted += "\\u" + GoText.hexadecimal(UInt64(scalar.value), digits: 4)
        } else {
          quoted.unicodeScalars.append(scalar)
        }
      }
    }
    return escaped(quoted + "\"")
  }

  static func base64(_ bytes: [UInt8]) -> String { "\"\(Data(bytes).base64EncodedString())\"" }

  /// What Go escapes so that the text may stand in HTML. Such characters come in strings alone.
  private static func escaped(_ json: String) -> String {
    guard json.utf8.contains(where: { $0 == 0x3C || $0 == 0x3E || $0 == 0x26 || $0 == 0xE2 }) else {
      return json
    }
    return json.replacingOccurrences(of: "<", with: "\\u003c")
      .replacingOccurrences(of: ">", with: "\\u003e").replacingOccurrences(of: "&", with: "\\u0026")
      .replacingOccurrences(of: "\u{2028}", with: "\\u2028")
      .replacingOccurrences(of: "\u{2029}", with: "\\u2029")
  }
}
