import Crypto
import Foundation
import SwiftASN1
import X509

/// A request for a certificate (PKCS #10, RFC 2986), as nodes send them and the controllers judge them.
public struct SigningRequest: Sendable {
  enum Limits {
    /// A request's text; one with an RSA key of 4,096 bits takes 2 KiB.
    static let bytes = 64 << 10
  }

  public let commonName: String
  public let organizations: [String]
  /// Names and addresses that the certificate is to be good for, in words.
  public let alternativeNames: [String]
  public let publicKey: Certificate.PublicKey

  /// Reads a request and checks that its maker has the key.
  public init(pem: String) throws {
    guard pem.utf8.count <= Limits.bytes else {
      throw CertificationError("the request is longer than \(Limits.bytes) bytes")
    }
    let request: CertificateSigningRequest
    do { request = try CertificateSigningRequest(pemEncoded: pem) } catch {
      throw CertificationError("unable to parse csr: \(error)")
    }
    guard request.publicKey.isValidSignature(request.signature, for: request) else {
      throw CertificationError("the request is not signed with its own key")
    }
    publicKey = request.publicKey
    var name = ""
    var organizations: [String] = []
    for attribute in request.subject.flatMap({ $0 }) {
      guard let text = String(attribute.value) else { continue }
      if attribute.type == .RDNAttributeType.commonName { name = text }
      if attribute.type == .RDNAttributeType.organizationName { organizations.append(text) }
    }
    commonName = name
    self.organizations = organizations
    let extensions = try request.attributes.extensionRequest?.extensions
    alternativeNames = (try extensions?.subjectAlternativeNames)?.map { "\($0)" } ?? []
  }

  /// Makes a key and a request for it.
  ///
  /// - Returns: both in PEM.
  public static func make(
    commonName: String, organizations: [String]
  ) throws -> (request: String, key: String) {
    let key = P256.Signing.PrivateKey()
    let request = try CertificateSigningRequest(
      version: .v1,
      subject: try DistinguishedName {
        for organization in organizations { OrganizationName(organization) }
        CommonName(commonName)
      },
      privateKey: Certificate.PrivateKey(key), attributes: CertificateSigningRequest.Attributes(),
      signatureAlgorithm: .ecdsaWithSHA256)
    return (try request.serializeAsPEM().pemString + "\n", key.pemRepresentation + "\n")
  }
}

/// Certificates as files name them.
public enum CertificateText {
  public static func pem(_ certificate: Certificate) throws -> String {
    try certificate.serializeAsPEM().pemString + "\n"
  }

  /// `sha256:` and the digest of the public key of the first certificate in a PEM text: what
  /// `--ca-cert-hash` compares. Source: kubeadm, "Token-based discovery with CA pinning".
  public static func publicKeyHash(_ pem: String) throws -> String {
    var serializer = DER.Serializer()
    do {
      try serializer.serialize(try Certificate(pemEncoded: pem).publicKey)
    } catch {
      throw CertificationError("the authority's certificate can't be read: \(error)")
    }
    let digest = SHA256.hash(data: Data(serializer.serializedBytes))
    return "sha256:" + digest.map { String(format: "%02x", $0) }.joined()
  }

  /// Whether a certificate belongs to a key, and how much of its life is left, from one to zero.
  public static func life(
    certificatePEM: String, keyPEM: String, secondsSinceEpoch: Int64
  ) -> Double {
    let now = Date(timeIntervalSince1970: TimeInterval(secondsSinceEpoch))
    guard let certificate = try? Certificate(pemEncoded: certificatePEM),
      let key = try? P256.Signing.PrivateKey(pemRepresentation: keyPEM),
      certificate.publicKey == Certificate.PublicKey(key.publicKey)
    else { return 0 }
    let whole = certificate.notValidAfter.timeIntervalSince(certificate.notValidBefore)
    let left = certificate.notValidAfter.timeIntervalSince(now)
    return whole > 0 ? max(0, left / whole) : 0
  }
}
