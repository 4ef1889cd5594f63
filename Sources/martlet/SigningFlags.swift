import ArgumentParser
import Certification
import NodeAgent

/// The authority that signs the certificates of nodes that join, by kube-controller-manager's flags.
struct SigningFlags: ParsableArguments {
  @Option(help: "PEM file of the authority that signs nodes' certificates; needed for nodes that join.")
  var clusterSigningCertFile: String?

  @Option(help: "PEM file of that authority's key.")
  var clusterSigningKeyFile: String?

  /// - Returns: nil where none is given.
  func authority() throws -> CertificateAuthority? {
    guard let certificate = clusterSigningCertFile, let key = clusterSigningKeyFile else {
      guard clusterSigningCertFile == nil, clusterSigningKeyFile == nil else {
        throw UsageFailure("--cluster-signing-cert-file and --cluster-signing-key-file go together")
      }
      return nil
    }
    func read(_ path: String, _ flag: String) throws -> String {
      guard let text = NodeFiles.text(path) else { throw StartFailure("\(flag): can't read \(path)") }
      return text
    }
    do {
      return try CertificateAuthority(
        certificatePEM: try read(certificate, "--cluster-signing-cert-file"),
        keyPEM: try read(key, "--cluster-signing-key-file"))
    } catch let error as CertificationError {
      throw StartFailure("\(error)")
    }
  }
}
