import Foundation
import TestKit
import Testing

extension StoreConformance {
  /// Both ports under TLS: whose certificates count, what changes while a member runs.
  @Suite(
    .serialized, .enabled(if: Peers.etcdctl != nil, Missing.etcdctl),
    .enabled(if: TestCertificates.isPossible, "needs openssl"))
  struct TLS {
    private func run(
      _ cluster: StoreCluster, _ command: String, _ certificates: TestCertificates,
      authority: String = "ca", client: String? = nil, member: Int = 0
    ) throws -> Program.Outcome {
      var arguments = command.split(separator: " ").map(String.init)
      arguments += [
        "--endpoints", "https://\(cluster.members[member].endpoint)", "--dial-timeout", "1s",
        "--command-timeout", "1s", "--cacert", certificates.path("\(authority).crt"),
      ]
      if let client {
        arguments += [
          "--cert", certificates.path("\(client).crt"), "--key",
          certificates.path("\(client).key"),
        ]
      }
      return try Peers.etcdctl!.run(arguments, environment: ["ETCDCTL_API": "3"])
    }

    @Test("Clients show certificates, are named by them, and lose them")
    func clientCertificates() throws {
      let certificates = try TestCertificates()
      try certificates.issueAuthority("ca")
      try certificates.issueAuthority("other")
      try certificates.issue("server", by: "ca")
      for (name, authority) in [("alice", "ca"), ("root", "ca"), ("stranger", "other")] {
        try certificates.issue(name, by: authority)
      }
      try certificates.revoke([], by: "ca")
      let cluster = try StoreCluster(
        flags: [
          "--cert-file", certificates.path("server.crt"), "--key-file",
          certificates.path("server.key"), "--trusted-ca-file", certificates.path("ca.crt"),
          "--client-cert-auth", "--client-crl-file", certificates.path("ca.crl"),
        ], secured: .clients)
      func succeeds(_ command: String, _ client: String?, authority: String = "ca") throws -> Bool {
        try run(cluster, command, certificates, authority: authority, client: client).status == 0
      }
      #expect(try succeeds("put a 1", "alice"))
      #expect(try !succeeds("get a", nil), "a client without a certificate")
      #expect(try !succeeds("get a", "stranger"), "a client of another authority")

      // HTTP/1.1 on the same port.
      let version = try Program(path: "/usr/bin/curl").run([
        "-s", "--http1.1", "--cacert", certificates.path("ca.crt"), "--cert",
        certificates.path("alice.crt"), "--key", certificates.path("alice.key"),
        "https://\(cluster.members[0].endpoint)/version",
      ])
      #expect(version.output.contains("etcdserver"), "\(version.errors)")

      // A certificate's common name is its user.
      for command in [
        "user add root --no-password", "role add root", "user grant-role root root",
        "user add alice --no-password", "role add app", "role grant-permission app read a",
        "user grant-role alice app", "auth enable",
      ] {
        #expect(try succeeds(command, "alice"), "\(command)")
      }
      #expect(try run(cluster, "get a", certificates, client: "alice").output == "a\n1\n")
      #expect(
        try run(cluster, "get b", certificates, client: "alice").errors
          .contains("etcdserver: permission denied"))
      #expect(try succeeds("put b 1", "root"))

      // A new certificate and a longer list of revoked ones count without a restart.
      try certificates.issue("server", by: "other")
      try certificates.revoke(["alice"], by: "ca")
      usleep(1_200_000)
      #expect(try succeeds("get b", "root", authority: "other"))
      #expect(try !succeeds("get b", "root", authority: "ca"))
      #expect(try !succeeds("get a", "alice", authority: "other"), "a revoked certificate")
    }

    @Test("Members know each other by certificates, and nobody else")
    func peerCertificates() throws {
      let certificates = try TestCertificates()
      try certificates.issueAuthority("ca")
      try certificates.issue("member", by: "ca")
      try certificates.issue("guest", by: "ca")
      let cluster = try StoreCluster(
        members: 3,
        flags: [
          "--peer-cert-file", certificates.path("member.crt"), "--peer-key-file",
          certificates.path("member.key"), "--peer-trusted-ca-file", certificates.path("ca.crt"),
          "--peer-client-cert-auth", "--peer-cert-allowed-cn", "member", "--auto-tls",
        ], secured: .both)
      // The client port's certificate signs itself: it is its own authority.
      for member in 0..<3 {
        let outcome = try Peers.etcdctl!.run(
          [
            "put", "k\(member)", "v", "--cacert",
            cluster.dataDirectory(of: member) + "/fixtures/client/cert.pem", "--endpoints",
            "https://\(cluster.members[member].endpoint)",
          ], environment: ["ETCDCTL_API": "3"])
        #expect(outcome.output == "OK\n", "\(outcome.errors)")
      }
      // A handshake with another name, or in the clear, leads nowhere.
      let port = cluster.members[0].peerPort
      func connect(_ name: String) throws -> Program.Outcome {
        try Program(path: "/bin/sh").run([
          "-c",
          "sleep 1 | openssl s_client -connect 127.0.0.1:\(port) -cert \(certificates.path(name)).crt"
            + " -key \(certificates.path(name)).key -CAfile \(certificates.path("ca.crt"))",
        ])
      }
      #expect(try connect("member").output.contains("Verify return code: 0"))
      _ = try connect("guest")
      _ = waitUntil(seconds: 2) { cluster.log(of: 0).contains("common name guest") }
      #expect(cluster.log(of: 0).contains("the certificate's common name guest is not allowed"))
    }

    @Test(
      "Flags that don't fit are refused with the reason",
      arguments: [
        (["--cert-file", "x"], "--cert-file and --key-file go together"),
        (["--listen-client-urls", "https://127.0.0.1:1"], "https:// URLs need a certificate"),
        (["--tls-min-version", "TLS1.1"], "--tls-min-version must be TLS1.2 or TLS1.3"),
        (["--tls-min-version", "TLS1.3", "--tls-max-version", "TLS1.2"], "must not be above"),
        (["--tls-min-version=TLS1.3", "--cipher-suites=x"], "--cipher-suites cannot be chosen"),
        (["--client-crl-file", "x"], "nobody is asked for"),
        (
          ["--cipher-suites", "NONSENSE"],
          #"unexpected TLS cipher suite "NONSENSE""#
        ),
        (["--auth-token", "jwt"], "needs a sign-method"),
        (["--bcrypt-cost", "3"], "--bcrypt-cost must be 4 to 31"),
      ])
    func badFlags(flags: [String], reason: String) throws {
      let folder = TestFolder()
      let outcome = try Peers.martlet!.run(
        ["store", "--data-dir", folder.path + "/data"] + flags, seconds: 10)
      #expect(outcome.status == 2 && outcome.errors.contains(reason), "\(outcome.errors)")
    }
  }
}
