import Crypto
import Foundation
import SwiftASN1
import X509

/// A private certificate authority: one P-256 key that signs the certificates of one cluster.
///
/// A pure value over keys and dates; the API server keeps it on disk, and the controllers read it there to sign
/// the certificates that nodes ask for.
public struct CertificateAuthority: Sendable {
  public let certificate: Certificate
  public let key: P256.Signing.PrivateKey

  public init(certificate: Certificate, key: P256.Signing.PrivateKey) {
    self.certificate = certificate
    self.key = key
  }

  /// Reads an authority from PEM.
  ///
  /// - Throws: ``CertificationError`` where the two are no certificate and its key.
  public init(certificatePEM: String, keyPEM: String) throws {
    do {
      certificate = try Certificate(pemEncoded: certificatePEM)
      key = try P256.Signing.PrivateKey(pemRepresentation: keyPEM)
    } catch {
      throw CertificationError("the authority's certificate or key can't be read: \(error)")
    }
    guard certificate.publicKey == Certificate.PublicKey(key.publicKey) else {
      throw CertificationError("the authority's key is not that of its certificate")
    }
  }

  /// A new, self-signed authority.
  public init(commonName: String, now: Date, validity: TimeInterval) throws {
    let key = P256.Signing.PrivateKey()
    let name = try DistinguishedName { CommonName(commonName) }
    let publicKey = Certificate.PublicKey(key.publicKey)
    certificate = try Certificate(
      version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: publicKey,
      notValidBefore: now - Self.clockSkew, notValidAfter: now + validity, issuer: name,
      subject: name, signatureAlgorithm: .ecdsaWithSHA256,
      extensions: try Certificate.Extensions {
        Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
        Critical(KeyUsage(digitalSignature: true, keyCertSign: true, cRLSign: true))
        SubjectKeyIdentifier(hash: publicKey)
      },
      issuerPrivateKey: Certificate.PrivateKey(key))
    self.key = key
  }

  /// What a certificate is issued for.
  public struct Request: Sendable {
    public var commonName: String
    /// Kubernetes reads groups from the organizations.
    public var organizations: [String]
    /// Names and numeric addresses that a server is reached by; empty for clients.
    public var hosts: [String]
    public var isServer: Bool
    public var isClient: Bool

    public init(
      commonName: String, organizations: [String] = [], hosts: [String] = [], isServer: Bool = false,
      isClient: Bool = false
    ) {
      self.commonName = commonName
      self.organizations = organizations
      self.hosts = hosts
      self.isServer = isServer
      self.isClient = isClient
    }
  }

  /// Machines' clocks differ: a certificate is valid a little before it was made.
  public static let clockSkew: TimeInterval = 300

  /// A new key and a certificate for it. It never outlives the authority.
  public func issue(
    _ request: Request, now: Date, validity: TimeInterval
  ) throws -> (certificate: Certificate, key: P256.Signing.PrivateKey) {
    let leafKey = P256.Signing.PrivateKey()
    let publicKey = Certificate.PublicKey(leafKey.publicKey)
    return (try sign(request, publicKey, now: now, validity: validity), leafKey)
  }

  /// A certificate for somebody else's key. It never outlives the authority.
  public func sign(
    _ request: Request, _ publicKey: Certificate.PublicKey, now: Date, validity: TimeInterval
  ) throws -> Certificate {
    var usages: [ExtendedKeyUsage.Usage] = []
    if request.isServer { usages.append(.serverAuth) }
    if request.isClient { usages.append(.clientAuth) }
    let names = request.hosts.map { host in
      Self.addressBytes(host).map { GeneralName.ipAddress(ASN1OctetString(contentBytes: $0[...])) }
        ?? .dnsName(host)
    }
    let issuerKey = try? certificate.extensions.subjectKeyIdentifier
    return try Certificate(
      version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: publicKey,
      notValidBefore: now - Self.clockSkew,
      notValidAfter: min(now + validity, certificate.notValidAfter),
      issuer: certificate.subject,
      subject: try DistinguishedName {
        for organization in request.organizations { OrganizationName(organization) }
        CommonName(request.commonName)
      },
      signatureAlgorithm: .ecdsaWithSHA256,
      extensions: try Certificate.Extensions {
        Critical(BasicConstraints.notCertificateAuthority)
        Critical(KeyUsage(digitalSignature: true))
        try ExtendedKeyUsage(usages)
        if !names.isEmpty { SubjectAlternativeNames(names) }
        SubjectKeyIdentifier(hash: publicKey)
        if let issuerKey { AuthorityKeyIdentifier(keyIdentifier: issuerKey.keyIdentifier) }
      },
      issuerPrivateKey: Certificate.PrivateKey(key))
  }

  /// The 4 or 16 bytes of a numeric address, or nil for a name.
  public static func addressBytes(_ text: String) -> [UInt8]? {
    var v4 = in_addr()
    if inet_pton(AF_INET, text, &v4) == 1 { return withUnsafeBytes(of: v4) { Array($0) } }
    var v6 = in6_addr()
    if inet_pton(AF_INET6, text, &v6) == 1 { return withUnsafeBytes(of: v6) { Array($0) } }
    return nil
  }
}

/// Why a certificate can't be made or read; one line.
public struct CertificationError: Error, Sendable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}
