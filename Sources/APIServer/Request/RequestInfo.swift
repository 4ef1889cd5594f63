import HTTPServer

/// What a request wants: the form in which authorization, audit and fairness see it.
///
/// | path | verb by method | resource, name, subresource |
/// |---|---|---|
/// | `/api/v1/pods` | GET list, POST create, DELETE deletecollection | pods |
/// | `/api/v1/namespaces/ns/pods/p` | GET get, PUT update, PATCH patch, DELETE delete | pods, p |
/// | `/apis/apps/v1/namespaces/ns/deployments/d/scale` | | deployments, d, scale |
/// | `/api/v1/namespaces/ns`, `.../ns/finalize` | | namespaces, ns, (finalize) |
/// | `/healthz`, `/api`, `/apis/apps` | the method in lower case | none |
struct RequestInfo: Sendable, Equatable {
  /// False for paths that name no resource: discovery, health, OpenAPI.
  var isResource = false
  var verb: String
  var path: String
  var group = ""
  var version = ""
  /// Empty for what has no namespace, and for requests over all namespaces.
  var namespace = ""
  var resource = ""
  var name = ""
  var subresource = ""
  /// What follows the subresource: `proxy/some/path`.
  var rest: [String] = []

  init(method: String, target: RequestTarget) {
    path = target.path
    verb = method.lowercased()
    var segments = target.segments[...]
    switch segments.first {
    case "api" where segments.count >= 3:
      version = segments[1]
      segments = segments.dropFirst(2)
    case "apis" where segments.count >= 4:
      group = segments[1]
      version = segments[2]
      segments = segments.dropFirst(3)
    default:
      return
    }
    isResource = true
    if segments.first == "namespaces", segments.count >= 2 {
      let second = segments[segments.startIndex + 1]
      namespace = second
      let third = segments.count > 2 ? segments[segments.startIndex + 2] : nil
      if third == nil || third == "status" || third == "finalize" {
        // The namespace itself.
        resource = "namespaces"
        name = second
        subresource = third ?? ""
        rest = Array(segments.dropFirst(3))
      } else {
        segments = segments.dropFirst(2)
        setResource(segments)
      }
    } else {
      setResource(segments)
    }
    switch method {
    case "GET", "HEAD":
      if name.isEmpty {
        verb = target.isTrue("watch") ? "watch" : "list"
      } else {
        verb = "get"
      }
    case "POST": verb = "create"
    case "PUT": verb = "update"
    case "PATCH": verb = "patch"
    case "DELETE": verb = name.isEmpty ? "deletecollection" : "delete"
    default: break
    }
  }

  private mutating func setResource(_ segments: ArraySlice<String>) {
    var segments = segments
    resource = segments.popFirst() ?? ""
    name = segments.popFirst() ?? ""
    subresource = segments.popFirst() ?? ""
    rest = Array(segments)
  }

  /// The request's resource as messages name it: `pods/log`.
  var resourceText: String { subresource.isEmpty ? resource : "\(resource)/\(subresource)" }
}

extension RequestTarget {
  /// A boolean query item: `watch`, `watch=1`, `watch=true`.
  func isTrue(_ name: String) -> Bool {
    switch value(of: name) {
    case nil: false
    case "false", "0", "f", "F", "False", "FALSE": false
    default: true
    }
  }
}
