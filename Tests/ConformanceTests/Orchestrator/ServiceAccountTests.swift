import Foundation
import TestKit
import Testing

/// What pods can do in the cluster, and what the node does for them besides running them.
@Suite(
  .serialized,
  .enabled(if: localClusterObstacle == nil, Comment(rawValue: localClusterObstacle ?? "")))
struct ServiceAccountTests {
  private static let manifest = """
    apiVersion: v1
    kind: ServiceAccount
    metadata: {name: reader}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: client}
    spec:
      serviceAccountName: reader
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: busybox
        imagePullPolicy: IfNotPresent
        command: [sleep, "100000"]
        volumeMounts: [{name: kubectl, mountPath: /kubectl}]
      volumes: [{name: kubectl, hostPath: {path: KUBECTL, type: File}}]
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: plain}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 0
      containers:
      - {name: main, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "100000"]}

    """

  @Test func aPodUsesItsAccountAgainstTheAPI() throws {
    let cluster = try LocalClusterFixture()
    defer { cluster.stop() }
    let kubectl = try #require(Peers.kubectl).path
    try cluster.apply(Self.manifest.replacingOccurrences(of: "KUBECTL", with: kubectl))
    try cluster.kubectl("wait", "--for=condition=Ready", "pod/client", "pod/plain", "--timeout=60s")
    func inside(_ command: String) throws -> Program.Outcome {
      try cluster.outcome(["exec", "client", "--", "sh", "-c", command], [:])
    }
    let place = "/var/run/secrets/kubernetes.io/serviceaccount"

    // Three files, as every client library expects them.
    #expect(try inside("cat \(place)/namespace").output == "default")
    #expect(try inside("ls \(place)").output == "ca.crt\nnamespace\ntoken\n")
    let none = try cluster.outcome(["exec", "plain", "--", "ls", place], [:])
    #expect(none.status == 1)

    // By hand: the API answers the token and nobody else.
    let address = "https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT"
    let header = "--header \"Authorization: Bearer $(cat \(place)/token)\""
    let read = try inside("wget -qO- \(header) \(address)/api/v1")
    #expect(read.output.contains("\"kind\":\"APIResourceList\""), "\(read)")
    let anonymous = try inside("wget -qO- \(address)/api/v1")
    #expect(anonymous.errors.contains("401 Unauthorized"), "\(anonymous)")

    // A real client, which verifies the server by ca.crt and finds the rest by itself.
    let user = try inside("/kubectl auth whoami -o yaml")
    #expect(user.output.contains("username: system:serviceaccount:default:reader"), "\(user)")
    #expect(user.output.contains("authentication.kubernetes.io/pod-name"), "\(user)")
    // Without rules that say otherwise an account may look at nothing.
    let pods = try inside("/kubectl get pods")
    #expect(
      pods.errors.contains(
        "User \"system:serviceaccount:default:reader\" cannot list resource \"pods\" in API group "
          + "\"\" in the namespace \"default\""), "\(pods)")

    // The token dies with the pod.
    let token = try inside("cat \(place)/token").output
    func asPod() throws -> Program.Outcome {
      try cluster.outcome(
        ["--kubeconfig", "/dev/null", "--server", cluster.server, "--insecure-skip-tls-verify",
          "--token", token, "auth", "whoami"], [:])
    }
    #expect(try asPod().output.contains("system:serviceaccount:default:reader"))
    try cluster.kubectl("delete", "pod", "client", "--timeout=30s")
    try cluster.eventually("the deleted pod's token is refused") {
      let refused = try asPod()
      return refused.status == 1 && refused.errors.contains("Unauthorized")
    }
  }
}

extension LocalClusterFixture {
  /// The API server's URL.
  var server: String {
    let text = (try? String(contentsOfFile: directory + "/kubeconfig", encoding: .utf8)) ?? ""
    let line = text.split(separator: "\n").first { $0.contains("server:") }
    return line?.split(separator: " ").last.map(String.init) ?? ""
  }
}
