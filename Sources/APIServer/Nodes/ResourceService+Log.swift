import HTTPServer
import KubeAPI
import Primitives

extension ResourceService {
  /// The query items of a log request, and whether they are numbers.
  private static let logOptions: [(name: String, isNumber: Bool)] = [
    ("follow", false), ("previous", false), ("timestamps", false), ("sinceSeconds", true),
    ("sinceTime", false), ("tailLines", true), ("limitBytes", true), ("stream", false),
  ]

  /// A container's log, passed through from the node as it comes.
  func log(_ call: Call, nodes: NodeConnector) async throws(StatusError) -> HTTPResponse {
    guard let pod = try await current(call) else { throw notFound(call) }
    let container = try Self.container(of: pod.value, call.request.target)
    let address = try nodeAddress(of: pod)
    let query = try Self.logQuery(call.request.target)
    let uri = "/containerLogs/\(pod.namespace)/\(pod.name)/\(container)\(query)"
    let answer: NodeAnswer
    do {
      answer = try await nodes.get(uri, from: address)
    } catch {
      throw .internalError(
        "Get \"https://\(address.host):\(address.port)\(uri)\": \(error)")
    }
    guard answer.head.status == 200 else { throw await Self.failure(answer) }
    return HTTPResponse(
      status: 200, fields: ["Content-Type": "text/plain"],
      body: .stream { writer in
        defer { answer.close() }
        while let piece = try await answer.next() { try await writer.write(piece) }
      })
  }

  /// Where the node of a pod listens.
  func nodeAddress(of pod: StoredObject) throws(StatusError) -> NodeConnector.Address {
    let nodeName = pod.value["spec"]["nodeName"].string ?? ""
    guard !nodeName.isEmpty else {
      throw .badRequest("pod \(pod.name) does not have a host assigned")
    }
    let core = GroupVersion(group: "", version: "v1")
    guard let resource = scheme().resource(core, "nodes"),
      let node = cache.get(
        key: resource.storageKey(namespace: "", name: nodeName),
        prefix: resource.storageKeyPrefix())
    else { throw .notFound(GroupResource(group: "", resource: "nodes"), name: nodeName) }
    guard let address = NodeConnector.Address(node: node.value) else {
      throw .serviceUnavailable("node \(nodeName) has not told where it listens")
    }
    return address
  }

  /// The container that a request names, or the only one that there is.
  static func container(
    of pod: Value, _ target: RequestTarget
  ) throws(StatusError) -> String {
    let name = pod["metadata"]["name"].string ?? ""
    let groups = ["containers", "initContainers", "ephemeralContainers"]
    let names = groups.map { pod["spec"][$0].elements.compactMap { $0["name"].string } }
    let wanted = target.value(of: "container") ?? ""
    if !wanted.isEmpty {
      guard names.contains(where: { $0.contains(wanted) }) else {
        throw .badRequest("container \(wanted) is not valid for pod \(name)")
      }
      return wanted
    }
    guard names[0].count == 1, names[1].isEmpty, names[2].isEmpty else {
      var text =
        "a container name must be specified for pod \(name), choose one of: "
        + "[\(names[0].joined(separator: " "))]"
      if !names[1].isEmpty {
        text += " or one of the init containers: [\(names[1].joined(separator: " "))]"
      }
      throw .badRequest(text)
    }
    return names[0][0]
  }

  private static func logQuery(_ target: RequestTarget) throws(StatusError) -> String {
    var items: [String] = []
    var errors: [FieldError] = []
    for (name, isNumber) in logOptions {
      guard let value = target.value(of: name) else { continue }
      if isNumber {
        guard let number = Int64(value) else {
          throw .badRequest("strconv.ParseInt: parsing \(quoted(value)): invalid syntax")
        }
        if number < (name == "tailLines" ? 0 : 1) {
          errors.append(
            .invalid(
              FieldPath(name), .integer(number),
              name == "tailLines"
                ? "must be greater than or equal to 0" : "must be greater than 0"))
        }
      }
      // What could end the item or begin another one must not get through.
      let isPlain = value.utf8.allSatisfy {
        ($0 | 0x20 >= 0x61 && $0 | 0x20 <= 0x7A) || ($0 >= 0x2D && $0 <= 0x3A)
      }
      guard isPlain else { throw .badRequest("invalid value for \(name): \(quoted(value))") }
      items.append("\(name)=\(value)")
    }
    if !errors.isEmpty {
      throw .invalid(
        GroupVersionKind(group: "", version: "v1", kind: "PodLogOptions"), name: "", errors)
    }
    return items.isEmpty ? "" : "?" + items.joined(separator: "&")
  }

  /// What a node answered instead of a log.
  private static func failure(_ answer: NodeAnswer) async -> StatusError {
    defer { answer.close() }
    var text: [UInt8] = []
    while text.count < 16_384, let piece = try? await answer.next() { text += piece }
    let message = String(decoding: text.prefix(16_384), as: UTF8.self)
      .split(separator: "\n").joined(separator: " ")
    switch answer.head.status {
    case 400: return .badRequest(message)
    case 404:
      return StatusError(code: 404, reason: .notFound, message: message)
    default: return .internalError(message)
    }
  }
}
