import Crypto
import Foundation
import SwiftASN1
import X509

/// A certificate that a member makes for itself, for `--auto-tls`: it hides what is said, and proves nothing
/// about who says it.
public enum SelfSignedCertificate {
  /// The certificate and key files in a folder; made there if they are missing or have expired.
  ///
  /// - Parameters:
  ///   - hosts: names and addresses that the certificate is good for.
  ///   - years: how long it is valid.
  public static func files(
    in folder: String, hosts: [String], years: Int
  ) throws -> (certificate: String, key: String) {
    let paths = (certificate: folder + "/cert.pem", key: folder + "/key.pem")
    if let text = try? String(contentsOfFile: paths.certificate, encoding: .utf8),
      let existing = try? Certificate(pemEncoded: text), existing.notValidAfter > Date(),
      FileManager.default.fileExists(atPath: paths.key)
    {
      return paths
    }
    let key = P256.Signing.PrivateKey()
    let name = try DistinguishedName { OrganizationName("martlet") }
    let names = hosts.map { host in
      CertificateIdentity.addressBytes(host).map {
        GeneralName.ipAddress(ASN1OctetString(contentBytes: $0[...]))
      } ?? .dnsName(host)
    }
    let now = Date()
    let certificate = try Certificate(
      version: .v3, serialNumber: Certificate.SerialNumber(),
      publicKey: Certificate.PublicKey(key.publicKey),
      // Machines' clocks differ.
      notValidBefore: now - 300,
      notValidAfter: now + TimeInterval(years) * 365 * 86_400, issuer: name, subject: name,
      signatureAlgorithm: .ecdsaWithSHA256,
      extensions: try Certificate.Extensions {
        Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
        Critical(KeyUsage(digitalSignature: true, keyCertSign: true))
        try ExtendedKeyUsage([.serverAuth, .clientAuth])
        if !names.isEmpty { SubjectAlternativeNames(names) }
      },
      issuerPrivateKey: Certificate.PrivateKey(key))
    try FileManager.default.createDirectory(
      atPath: folder, withIntermediateDirectories: true,
      attributes: [.posixPermissions: 0o700])
    try certificate.serializeAsPEM().pemString.write(
      toFile: paths.certificate, atomically: true, encoding: .utf8)
    guard
      FileManager.default.createFile(
        atPath: paths.key, contents: Data(key.pemRepresentation.utf8),
        attributes: [.posixPermissions: 0o600])
    else { throw TransportSecurityError("can't write \(paths.key)") }
    return paths
  }
}
