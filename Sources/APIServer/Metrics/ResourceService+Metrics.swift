import HTTPServer
import KubeAPI
import Primitives

/// metrics.k8s.io: answered by the nodes, never stored. With it `kubectl top` works.
extension ResourceService {
  /// GET of one object's metrics, or of a list of them.
  func metrics(_ call: Call, nodes: NodeConnector) async throws(StatusError) -> HTTPResponse {
    let answers = try Answers(call.request, now: environment.now)
    let options = try ListOptions(call.request.target, resource: call.resource, isWatch: false)
    let isOne = call.info.verb == "get"
    let isOfNodes = call.resource.plural == "nodes"
    try await waitForCache(.zero)
    var objects = try metered(isOfNodes ? "nodes" : "pods", call)
    if isOne {
      objects = objects.filter { $0.name == call.info.name }
      guard !objects.isEmpty else { throw notFound(call) }
    } else {
      objects = objects.filter { options.matches($0) }
    }
    let now = environment.now()
    let found = await statistics(of: objects, isOfNodes: isOfNodes, nodes)
    let metrics = objects.compactMap { object -> Value? in
      let node = isOfNodes ? object.name : object.value["spec"]["nodeName"].string ?? ""
      guard let summary = found[node] else { return nil }
      return isOfNodes
        ? ResourceMetricsObjects.nodeMetrics(object.value, summary, now: now)
        : ResourceMetricsObjects.podMetrics(object.value, summary, now: now)
    }
    guard isOne else { return answers.list(metrics, of: call.resource, metadata: [:]) }
    guard let only = metrics.first else {
      // As metrics-server says of what it has no two samples of yet.
      throw .notFound(
        GroupResource(group: call.resource.kind.group, resource: call.resource.plural),
        name: isOfNodes ? call.info.name : "\(call.namespace)/\(call.info.name)")
    }
    return answers.value(only, of: call.resource)
  }

  /// The objects that have metrics.
  private func metered(_ plural: String, _ call: Call) throws(StatusError) -> [StoredObject] {
    let core = GroupVersion(group: "", version: "v1")
    guard let resource = scheme().resource(core, plural) else {
      throw .internalError("no resource \(plural)")
    }
    let namespace = call.namespace.isEmpty ? nil : call.namespace
    return Array(cache.list(prefix: resource.storageKeyPrefix(), namespace: namespace).objects)
  }

  private func statistics(
    of objects: [StoredObject], isOfNodes: Bool, _ nodes: NodeConnector
  ) async -> [String: Value] {
    let names = Set(
      objects.map { isOfNodes ? $0.name : $0.value["spec"]["nodeName"].string ?? "" })
    return await NodeStatistics(nodes: nodes).summaries(
      of: names.sorted().compactMap { node(named: $0).flatMap { NodeConnector.Address(node: $0) } })
  }

  func node(named name: String) -> Value? {
    guard let resource = scheme().resource(GroupVersion(group: "", version: "v1"), "nodes") else {
      return nil
    }
    return cache.get(
      key: resource.storageKey(namespace: "", name: name), prefix: resource.storageKeyPrefix())?.value
  }

  /// `nodes/NAME/proxy/…`: what a node's own port answers to a GET.
  func nodeProxy(_ call: Call, nodes: NodeConnector) async throws(StatusError) -> HTTPResponse {
    guard let node = node(named: call.info.name) else { throw notFound(call) }
    guard let address = NodeConnector.Address(node: node) else {
      throw .serviceUnavailable("node \(call.info.name) has not told where it listens")
    }
    let target = call.request.target
    let path = "/" + call.info.rest.map(Self.percentEncoded).joined(separator: "/")
    let query = target.query.map {
      "\(Self.percentEncoded($0.name))=\(Self.percentEncoded($0.value))"
    }
    let uri = query.isEmpty ? path : "\(path)?\(query.joined(separator: "&"))"
    let answer: NodeAnswer
    do {
      answer = try await nodes.get(uri, from: address)
    } catch {
      throw .serviceUnavailable("error trying to reach service: \(error)")
    }
    return HTTPResponse(
      status: answer.head.status, fields: ["Content-Type": answer.head.contentType],
      body: .stream { writer in
        defer { answer.close() }
        while let piece = try await answer.next() { try await writer.write(piece) }
      })
  }
}
