import Foundation
import TestKit
import Testing

extension StoreConformance.CtlCommands {
  @Test(
    "Over TLS our client shows its certificate, and believes no stranger unless told to",
    .enabled(if: TestCertificates.isPossible, "needs openssl"))
  func security() throws {
    let certificates = try TestCertificates()
    for authority in ["ca", "other"] { try certificates.issueAuthority(authority) }
    for name in ["server", "alice"] { try certificates.issue(name, by: "ca") }
    let cluster = try StoreCluster(
      flags: [
        "--cert-file", certificates.path("server.crt"), "--key-file",
        certificates.path("server.key"), "--trusted-ca-file", certificates.path("ca.crt"),
        "--client-cert-auth",
      ], secured: .clients)
    let endpoint = cluster.members[0].endpoint
    let own = ["--cert", certificates.path("alice.crt"), "--key", certificates.path("alice.key")]
    func ctl(
      _ flags: [String], endpoint: String, _ environment: [String: String] = [:]
    ) throws -> Program.Outcome {
      try Peers.martlet!.run(
        ["ctl", "--endpoints", endpoint, "--dial-timeout", "1s", "--command-timeout", "1s"] + flags
          + ["put", "a", "1"], environment: environment)
    }
    let trust = ["--cacert", certificates.path("ca.crt")]
    #expect(try ctl(trust + own, endpoint: "https://\(endpoint)").output == "OK\n")
    #expect(try ctl(trust + own, endpoint: endpoint).output == "OK\n", "as with etcdctl")
    let fromEnvironment = try ctl(
      [], endpoint: endpoint,
      [
        "ETCDCTL_CACERT": certificates.path("ca.crt"),
        "ETCDCTL_CERT": certificates.path("alice.crt"),
        "ETCDCTL_KEY": certificates.path("alice.key"),
      ])
    #expect(fromEnvironment.output == "OK\n")
    // Whoever shows nothing, or sees a stranger's certificate, gets nowhere, and is told so.
    let strangers = ["--cacert", certificates.path("other.crt")]
    for flags in [trust, strangers + own] {
      let outcome = try ctl(flags, endpoint: "https://\(endpoint)")
      #expect(outcome.status == 1 && outcome.output.isEmpty, "\(flags)")
      #expect(outcome.errors.contains("Error: "), "\(outcome.errors)")
    }
    let careless = try ctl(
      strangers + own + ["--insecure-skip-tls-verify"], endpoint: "https://\(endpoint)")
    #expect(careless.output == "OK\n")
    let missing = try ctl(["--cacert", "/nowhere"], endpoint: endpoint)
    #expect(missing.status == 128 && missing.errors.hasPrefix("Error: open /nowhere: "))
  }
}
