import HTTPServer
import KubeAPI
import Logging
import Primitives

/// Takes a request through identification, permission and dispatch; every failure becomes a Status.
///
///     authenticate → (anonymous: health and version only) → authorize → dispatch by path and verb
final class RequestRouter: Sendable {
  private let service: ResourceService
  private let authenticator: Authenticator
  private let authorizer: any Authorizer
  private let documents: APIDocuments
  private let health: HealthChecks
  private let nodes: NodeConnector?
  private let logger: Logger
  private let reviews: Reviews

  init(
    service: ResourceService, authenticator: Authenticator, authorizer: any Authorizer,
    documents: APIDocuments, health: HealthChecks, nodes: NodeConnector?, logger: Logger
  ) {
    self.service = service
    self.authenticator = authenticator
    self.authorizer = authorizer
    self.documents = documents
    self.health = health
    self.nodes = nodes
    self.logger = logger
    reviews = Reviews(
      authenticator: authenticator, authorizer: authorizer, environment: service.environment)
  }

  func handle(_ request: HTTPRequest) async -> HTTPResponse {
    do throws(StatusError) {
      return try await respond(request)
    } catch {
      if error.code >= 500 {
        logger.warning(
          "request failed",
          metadata: [
            "method": "\(request.method)", "path": "\(request.target.path)",
            "status": "\(error.code)", "message": "\(error.message)",
          ])
      }
      return HTTPResponse(error)
    }
  }

  private func respond(_ request: HTTPRequest) async throws(StatusError) -> HTTPResponse {
    let info = RequestInfo(method: request.method, target: request.target)
    guard let user = await authenticator.authenticate(request) else { throw .unauthorized }
    if let answer = health.answer(request.target) { return answer }
    if info.path == "/version" { return documents.version }
    let refusal = authorizer.refusal(of: info, by: user)
    if user.isAnonymous, !info.isResource || refusal != nil { throw .unauthorized }
    if let refusal {
      throw .forbidden(
        GroupResource(group: info.group, resource: info.resource), name: info.name, why: refusal)
    }
    guard info.isResource else {
      guard info.verb == "get" || info.verb == "head" else { throw .methodNotAllowed }
      guard let answer = try documents.answer(request) else { throw .unknownPath }
      return answer
    }
    return try await dispatch(request, info, user)
  }

  private func dispatch(
    _ request: HTTPRequest, _ info: RequestInfo, _ user: UserInfo
  ) async throws(StatusError) -> HTTPResponse {
    let groupVersion = GroupVersion(group: info.group, version: info.version)
    guard let resource = service.scheme().resource(groupVersion, info.resource) else {
      if info.verb == "list", Self.customKinds == "\(info.resource).\(info.group)" {
        return .json(Self.noCustomKinds)
      }
      // Binding is a kind of its own with nothing but a create.
      throw .unknownPath
    }
    let isNamespaceMissing = resource.isNamespaced && info.namespace.isEmpty
    let isNamespaceTooMuch =
      !resource.isNamespaced && !info.namespace.isEmpty && info.resource != "namespaces"
    let needsNamespace = !["list", "watch"].contains(info.verb)
    let hasRest = !info.rest.isEmpty && info.subresource != "proxy"
    if isNamespaceTooMuch || (isNamespaceMissing && needsNamespace) || hasRest {
      throw .unknownPath
    }
    let call = ResourceService.Call(
      request: request, info: info, user: user, resource: resource)
    guard info.subresource.isEmpty else { return try await dispatchSubresource(call) }
    guard resource.verbs.contains(info.verb) else { throw notAllowed(call) }
    if info.group == ResourceDefinition.metricsGroup {
      return try await service.metrics(call, nodes: try connector())
    }
    if !resource.isStored { return try await reviews.answer(call) }
    switch info.verb {
    case "get": return try await service.get(call)
    case "list": return try await service.list(call)
    case "watch": return try await service.watch(call)
    case "create": return try await service.create(call)
    case "update": return try await service.update(call)
    case "patch": return try await service.patch(call)
    case "delete": return try await service.delete(call)
    case "deletecollection": return try await service.deleteCollection(call)
    default: throw notAllowed(call)
    }
  }

  // Before kubectl says that a kind doesn't exist, it asks which custom kinds there are: none.
  private static let customKinds = "customresourcedefinitions.apiextensions.k8s.io"
  private static let noCustomKinds: Value = [
    "kind": "CustomResourceDefinitionList", "apiVersion": "apiextensions.k8s.io/v1",
    "metadata": ["resourceVersion": "1"], "items": [],
  ]

  private func dispatchSubresource(
    _ call: ResourceService.Call
  ) async throws(StatusError) -> HTTPResponse {
    guard let subresource = call.resource.subresource(call.info.subresource) else {
      throw .unknownPath
    }
    guard subresource.verbs.contains(call.info.verb) else { throw notAllowed(call) }
    switch (subresource.name, call.info.verb) {
    case ("status", "get"), ("approval", "get"): return try await service.get(call)
    case ("approval", "update"): return try await service.update(call)
    case ("approval", "patch"): return try await service.patch(call)
    case ("status", "update"), ("finalize", "update"): return try await service.update(call)
    case ("status", "patch"): return try await service.patch(call)
    case ("scale", "get"): return try await service.getScale(call)
    case ("scale", "update"), ("scale", "patch"): return try await service.writeScale(call)
    case ("binding", "create"): return try await service.bind(call)
    case ("eviction", "create"): return try await service.evict(call)
    case ("token", "create"): return try await service.createToken(call)
    case ("log", "get"): return try await service.log(call, nodes: try connector())
    case ("proxy", "get"): return try await service.nodeProxy(call, nodes: try connector())
    case ("exec", _), ("attach", _), ("portforward", _):
      return try await service.stream(call, nodes: try connector())
    default:
      throw StatusError(
        code: 501, reason: "NotImplemented",
        message: "\(call.info.resourceText) is not implemented by this server yet")
    }
  }

  private func connector() throws(StatusError) -> NodeConnector {
    guard let nodes else { throw .serviceUnavailable("this server calls no nodes") }
    return nodes
  }

  private func notAllowed(_ call: ResourceService.Call) -> StatusError {
    call.info.subresource.isEmpty
      ? .methodNotAllowed(call.resource.groupResource, verb: call.info.verb) : .methodNotAllowed
  }
}
