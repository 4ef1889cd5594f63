import Certification
import KubeAPI
import Testing

@testable import Controllers

/// Who gets a certificate without asking anybody, and who doesn't.
@Suite("Certificates")
struct CertificatePlanTests {
  private func request(
    _ subject: String, _ organizations: [String] = ["system:nodes"],
    signer: String = CertificatePlan.nodeClientSigner, by user: String,
    groups: [String] = ["system:authenticated"], usages: Value = ["digital signature", "client auth"],
    conditions: [String] = []
  ) throws -> Value {
    let pem = try SigningRequest.make(commonName: subject, organizations: organizations).request
    return [
      "spec": [
        "request": Value(Base64.encode(pem.utf8)), "signerName": Value(signer), "usages": usages,
        "username": Value(user), "groups": Value(groups),
      ],
      "status": ["conditions": .array(conditions.map { ["type": Value($0), "status": "True"] })],
    ]
  }

  private func decide(_ request: Value) -> CertificatePlan {
    CertificatePlan.decide(request) { $0 == "living" }
  }

  private func isApproved(_ request: Value) -> Bool {
    if case .approve = decide(request) { true } else { false }
  }

  @Test("a bootstrap token makes a new node, never one that lives")
  func bootstrap() throws {
    let groups = ["system:bootstrappers"]
    #expect(isApproved(try request("system:node:new", by: "system:bootstrap:abcdef", groups: groups)))
    #expect(
      decide(try request("system:node:living", by: "system:bootstrap:abcdef", groups: groups)) == .leave)
    #expect(decide(try request("system:node:new", by: "somebody")) == .leave)
    #expect(
      decide(
        try request(
          "kubernetes-admin", ["system:masters"], by: "system:bootstrap:abcdef", groups: groups))
        == .leave)
  }

  @Test("a node renews its own certificates and nobody else's")
  func renewal() throws {
    #expect(isApproved(try request("system:node:living", by: "system:node:living")))
    #expect(decide(try request("system:node:other", by: "system:node:living")) == .leave)
    let serving: Value = ["digital signature", "server auth"]
    #expect(
      isApproved(
        try request(
          "system:node:living", signer: CertificatePlan.nodeServingSigner, by: "system:node:living",
          usages: serving)))
    #expect(
      decide(
        try request(
          "system:node:living", signer: CertificatePlan.nodeServingSigner,
          by: "system:bootstrap:abcdef", groups: ["system:bootstrappers"], usages: serving)) == .leave)
  }

  @Test("what is approved is signed, unless its signer doesn't sign such things")
  func signing() throws {
    let approved = ["Approved"]
    #expect(
      decide(try request("system:node:n", by: "x", conditions: approved)) == .sign(isServer: false))
    #expect(
      decide(
        try request(
          "jane", ["people"], signer: CertificatePlan.clientSigner, by: "jane", conditions: approved))
        == .sign(isServer: false))
    for wrong in [
      try request("jane", ["system:masters"], signer: CertificatePlan.clientSigner, by: "jane", conditions: approved),
      try request("jane", by: "x", conditions: approved),
      try request("system:node:n", ["others"], by: "x", conditions: approved),
      try request("system:node:n", by: "x", usages: ["server auth"], conditions: approved),
    ] {
      guard case .fail = decide(wrong) else {
        Issue.record("\(decide(wrong))")
        continue
      }
    }
    #expect(decide(try request("system:node:n", by: "x", conditions: ["Denied"])) == .leave)
  }

  @Test("a request that isn't one is never approved")
  func garbage() {
    let garbage: Value = [
      "spec": [
        "request": Value(Base64.encode("-----BEGIN CERTIFICATE REQUEST-----".utf8)),
        "signerName": Value(CertificatePlan.nodeClientSigner),
        "groups": ["system:bootstrappers"],
      ]
    ]
    #expect(decide(garbage) == .leave)
  }
}
