import HTTPServer
import KubeAPI
import Primitives

extension ResourceService {
  /// Exec, attach and port-forward: the connection is passed through to the pod's node as it is.
  ///
  /// What flows on it (WebSocket or SPDY, and what they carry) is between the client and the node; here it
  /// is decided who may, and where to.
  func stream(_ call: Call, nodes: NodeConnector) async throws(StatusError) -> HTTPResponse {
    guard let pod = try await current(call) else { throw notFound(call) }
    let target = call.request.target
    var uri: String
    switch call.info.subresource {
    case "portforward": uri = "/portForward/\(pod.namespace)/\(pod.name)"
    default:
      let container = try Self.container(of: pod.value, target)
      uri = "/\(call.info.subresource)/\(pod.namespace)/\(pod.name)/\(container)"
      var items: [String] = []
      for (option, name) in [
        ("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty"),
      ] where target.isTrue(option) {
        items.append("\(name)=1")
      }
      guard items.contains(where: { $0 != "tty=1" }) else {
        throw .badRequest("you must specify at least 1 of stdin, stdout, stderr")
      }
      if call.info.subresource == "exec" {
        let command = target.values(of: "command")
        if command.isEmpty { throw .badRequest("you must specify at least 1 command") }
        items += command.map { "command=\(Self.percentEncoded($0))" }
      }
      uri += "?" + items.joined(separator: "&")
    }
    let phase = pod.value["status"]["phase"].string ?? ""
    if phase == "Succeeded" || phase == "Failed" {
      throw .badRequest(
        "cannot \(call.info.subresource) a container in a completed pod; current phase is \(phase)")
    }
    guard let wanted = call.request.fields["Upgrade"], !wanted.isEmpty else {
      throw .badRequest("Upgrade request required")
    }
    let address = try nodeAddress(of: pod)
    let answer: NodeUpgradeAnswer
    do {
      answer = try await nodes.upgrade(call.request, uri: uri, to: address)
    } catch {
      throw .internalError("error dialing backend: \(error)")
    }
    switch answer {
    case .refused(let status, let text):
      let message = text.split(separator: "\n").joined(separator: " ")
      switch status {
      case 400: throw .badRequest(message)
      case 403: throw StatusError(code: 403, reason: .forbidden, message: message)
      case 404: throw StatusError(code: 404, reason: .notFound, message: message)
      default: throw .internalError(message)
      }
    case .upgraded(let fields, let node):
      return HTTPResponse(
        status: 101, fields: fields,
        body: .upgrade(.bytes) { client in await ByteStream.join(client, node) })
    }
  }

  /// A query item's value in which nothing but unreserved characters stands for itself.
  static func percentEncoded(_ text: String) -> String {
    let digits = Array("0123456789ABCDEF".utf8)
    var bytes: [UInt8] = []
    for byte in text.utf8 {
      switch byte {
      case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F, 0x7E: bytes.append(byte)
      default: bytes += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
