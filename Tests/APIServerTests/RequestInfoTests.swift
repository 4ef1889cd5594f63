import HTTPServer
import Testing

@testable import APIServer

@Suite("What a request wants")
struct RequestInfoTests {
  @Test(
    "is read from its method and path",
    arguments: [
      ("GET", "/api/v1/pods", "list  pods"),
      ("GET", "/api/v1/pods?watch=true", "watch  pods"),
      ("GET", "/api/v1/pods?watch=false", "list  pods"),
      ("GET", "/api/v1/namespaces/ns/pods/p", "get ns pods p"),
      ("HEAD", "/api/v1/namespaces/ns/pods/p", "get ns pods p"),
      ("POST", "/api/v1/namespaces/ns/pods", "create ns pods"),
      ("PUT", "/apis/apps/v1/namespaces/ns/deployments/d/scale", "update ns deployments d scale"),
      ("PATCH", "/api/v1/namespaces/ns", "patch ns namespaces ns"),
      ("PUT", "/api/v1/namespaces/ns/finalize", "update ns namespaces ns finalize"),
      ("DELETE", "/api/v1/namespaces/ns/pods", "deletecollection ns pods"),
      ("DELETE", "/api/v1/nodes/n", "delete  nodes n"),
      ("GET", "/api/v1/namespaces", "list  namespaces"),
    ])
  func resources(_ method: String, _ path: String, _ expected: String) throws {
    let info = RequestInfo(method: method, target: try #require(RequestTarget(path)))
    #expect(info.isResource)
    let text = "\(info.verb) \(info.namespace) \(info.resource) \(info.name) \(info.subresource)"
    var trimmed = text
    while trimmed.last == " " { trimmed.removeLast() }
    #expect(trimmed == expected)
  }

  @Test(
    "names no resource outside of the API's groups",
    arguments: ["/", "/api", "/apis/apps/v1", "/healthz"])
  func others(_ path: String) throws {
    let info = RequestInfo(method: "GET", target: try #require(RequestTarget(path)))
    #expect(!info.isResource)
    #expect(info.verb == "get")
  }
}

@Suite("The components' rules")
struct ComponentAuthorizerTests {
  private func refusal(
    _ method: String, _ path: String, _ user: String, _ groups: [String] = []
  ) throws -> String? {
    ComponentAuthorizer().refusal(
      of: RequestInfo(method: method, target: try #require(RequestTarget(path))),
      by: UserInfo(name: user, groups: groups))
  }

  @Test("let administrators do everything and strangers discover only")
  func extremes() throws {
    #expect(try refusal("DELETE", "/api/v1/nodes/n", "root", ["system:masters"]) == nil)
    #expect(try refusal("GET", "/apis", "alice") == nil)
    #expect(
      try refusal("GET", "/api/v1/namespaces/a/pods", "alice")
        == "User \"alice\" cannot list resource \"pods\" in API group \"\" in the namespace \"a\"")
    #expect(
      try refusal("PUT", "/apis/apps/v1/namespaces/a/deployments/d/scale", "alice")?
        .contains("\"deployments/scale\" in API group \"apps\"") == true)
  }

  @Test("let a node change itself and no other")
  func nodes() throws {
    let groups = ["system:nodes"]
    #expect(try refusal("PATCH", "/api/v1/nodes/a/status", "system:node:a", groups) == nil)
    #expect(try refusal("PATCH", "/api/v1/nodes/b/status", "system:node:a", groups) != nil)
    #expect(try refusal("DELETE", "/api/v1/nodes/b", "system:node:a", groups) != nil)
    #expect(
      try refusal(
        "PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/a", "system:node:a",
        groups) == nil)
    #expect(
      try refusal(
        "PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/a", "system:node:a",
        groups) != nil)
    // The group alone names no node.
    #expect(try refusal("GET", "/api/v1/pods", "system:node:a") != nil)
  }

  @Test("let the scheduler bind, but not create, pods")
  func scheduler() throws {
    let user = "system:kube-scheduler"
    #expect(try refusal("POST", "/api/v1/namespaces/a/pods/p/binding", user) == nil)
    #expect(try refusal("POST", "/api/v1/namespaces/a/pods", user) != nil)
  }
}
