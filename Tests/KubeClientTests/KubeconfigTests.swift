import Testing

@testable import KubeClient

@Suite("A kubeconfig")
struct KubeconfigTests {
  private static func text(
    cluster: String = "server: https://10.0.0.1:6443", user: String = "token: secret",
    context: String = "{cluster: c, user: u}", current: String = "x"
  ) -> String {
    """
    apiVersion: v1
    kind: Config
    current-context: \(current)
    contexts: [{name: x, context: \(context)}]
    clusters: [{name: c, cluster: {\(cluster)}}]
    users: [{name: u, user: {\(user)}}]
    """
  }

  @Test("names server and token")
  func plain() throws {
    let config = try Kubeconfig(text: Self.text(), directory: "")
    #expect(config.host == "10.0.0.1")
    #expect(config.port == 6443)
    #expect(config.token == "secret")
    #expect(config.authorityPEM == nil)
    #expect(!config.skipsVerification)
  }

  @Test("holds certificates inline; the port is 443 if none is given; IPv6 stands in brackets")
  func inline() throws {
    let config = try Kubeconfig(
      text: Self.text(
        cluster: "server: 'https://[::1]', certificate-authority-data: QUJD",
        user: "client-certificate-data: QQ==, client-key-data: Qg=="), directory: "")
    #expect(config.host == "::1")
    #expect(config.port == 443)
    #expect(config.authorityPEM == Array("ABC".utf8))
    #expect(config.certificatePEM == Array("A".utf8))
    #expect(config.keyPEM == Array("B".utf8))
  }

  @Test(
    "says what is wrong with it",
    arguments: [
      ("- a", "not a kubeconfig: no mapping at the top"),
      ("kind: Config", "no current-context"),
      (text(current: "y"), "no context named 'y'"),
      (text(context: "{cluster: d, user: u}"), "no cluster named 'd'"),
      (text(context: "{cluster: c}"), "no user named ''"),
      (
        text(cluster: "server: http://a"),
        "the cluster's server must be an https URL without a path"
      ),
      (
        text(cluster: "server: https://a/k8s"),
        "the cluster's server must be an https URL without a path"
      ),
      (
        text(cluster: "server: https://a, certificate-authority-data: '*'"),
        "certificate-authority-data is not valid base64"
      ),
      (
        text(cluster: "server: https://a, certificate-authority: ca.pem"),
        "cannot read certificate-authority /nowhere/ca.pem"
      ),
      (
        text(user: "client-certificate-data: QQ=="),
        "client-certificate and client-key need each other"
      ),
      (text(user: "exec: {command: aws}"), "the user's exec is not supported"),
    ])
  func errors(text: String, message: String) {
    #expect {
      try Kubeconfig(text: text, directory: "/nowhere")
    } throws: {
      ($0 as? Kubeconfig.Failure)?.description == message
    }
  }

  @Test("that is no YAML or not there is a failure too")
  func unreadable() {
    #expect(throws: Kubeconfig.Failure.self) { try Kubeconfig(text: "a: [", directory: "") }
    #expect(throws: Kubeconfig.Failure.self) { try Kubeconfig(path: "/nowhere/config") }
  }

  @Test("Queries are percent-encoded byte by byte")
  func escaping() {
    #expect(APIClient.escape("app in (a,b)") == "app%20in%20%28a%2Cb%29")
    #expect(APIClient.escape("a-b.c_d~1=ü&") == "a-b.c_d~1%3D%C3%BC%26")
  }
}
