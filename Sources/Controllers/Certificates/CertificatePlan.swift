import Certification
import KubeAPI

/// What becomes of a request for a certificate.
///
/// Three signers are known here:
///
/// | signer | what for | approved by itself |
/// |---|---|---|
/// | `kubernetes.io/kube-apiserver-client-kubelet` | a node's requests to the API server | for a machine that joins with a bootstrap token, and for a node that renews its own |
/// | `martlet.io/node-serving` | a node's own port | for that very node |
/// | `kubernetes.io/kube-apiserver-client` | people | never |
///
/// A certificate for a node's port has no host names in it: the API server, its only client, compares the subject.
/// So nobody can have a certificate made by which a node passes for another server, whatever it is called.
/// Source: Kubernetes, "Certificates and Certificate Signing Requests", "TLS bootstrapping".
enum CertificatePlan: Equatable {
  case leave
  /// Write the condition Approved.
  case approve(message: String)
  /// Sign and write the certificate.
  case sign(isServer: Bool)
  /// Write the condition Failed: it can't be signed.
  case fail(message: String)

  static let nodeClientSigner = "kubernetes.io/kube-apiserver-client-kubelet"
  static let nodeServingSigner = "martlet.io/node-serving"
  static let clientSigner = "kubernetes.io/kube-apiserver-client"
  private static let nodePrefix = "system:node:"

  /// - Parameters:
  ///   - isLiving: whether a node of that name is ready now.
  static func decide(
    _ request: Value, isLiving: (_ node: String) -> Bool
  ) -> CertificatePlan {
    let signer = request["spec"]["signerName"].string ?? ""
    guard [nodeClientSigner, nodeServingSigner, clientSigner].contains(signer),
      request["status"]["certificate"].isEmpty
    else { return .leave }
    let types = request["status"]["conditions"].elements.compactMap { $0["type"].string }
    if types.contains("Denied") || types.contains("Failed") { return .leave }
    let isApproved = types.contains("Approved")
    let wish: SigningRequest
    do { wish = try SigningRequest(pem: text(request)) } catch {
      return isApproved ? .fail(message: "\(error)") : .leave
    }
    let usages = Set(request["spec"]["usages"].strings)
    if let problem = problem(wish, usages, signer) {
      return isApproved ? .fail(message: problem) : .leave
    }
    if isApproved { return .sign(isServer: signer == nodeServingSigner) }
    guard signer != clientSigner else { return .leave }
    if request["spec"]["username"].string == wish.commonName {
      return .approve(
        message: signer == nodeServingSigner
          ? "Auto approving the node's own serving certificate."
          : "Auto approving self kubelet client certificate after SubjectAccessReview.")
    }
    let node = String(wish.commonName.dropFirst(nodePrefix.count))
    // A token must not make anybody a node that lives already: that is for people to decide.
    guard signer == nodeClientSigner, !isLiving(node),
      request["spec"]["groups"].strings.contains("system:bootstrappers")
    else { return .leave }
    return .approve(
      message: "Auto approving kubelet client certificate after SubjectAccessReview.")
  }

  static func text(_ request: Value) -> String {
    String(
      decoding: request["spec"]["request"].string.flatMap { Base64.decode($0) } ?? [],
      as: UTF8.self)
  }

  /// Why a signer doesn't sign that.
  private static func problem(
    _ wish: SigningRequest, _ usages: Set<String>, _ signer: String
  ) -> String? {
    let purpose = signer == nodeServingSigner ? "server auth" : "client auth"
    guard usages.contains(purpose),
      usages.isSubset(of: [purpose, "digital signature", "key encipherment"])
    else { return "the usages must be \(purpose), digital signature and perhaps key encipherment" }
    guard wish.alternativeNames.isEmpty else {
      return "subject alternative names are not allowed: \(wish.alternativeNames.joined(separator: ", "))"
    }
    guard !wish.commonName.isEmpty else { return "the subject has no common name" }
    if signer == clientSigner {
      return wish.organizations.contains("system:masters")
        ? "use of \(signer) signer with system:masters group is not allowed" : nil
    }
    guard wish.organizations == ["system:nodes"] else {
      return "subject organization is not system:nodes"
    }
    guard wish.commonName.hasPrefix(nodePrefix), wish.commonName != nodePrefix else {
      return "subject common name does not begin with system:node: "
    }
    return nil
  }
}
