import NIOSSL
import SwiftASN1
import X509

#if canImport(Glibc)
  import Glibc
#endif

/// What a certificate says of its holder.
struct CertificateIdentity {
  private let certificate: Certificate

  init(_ certificate: NIOSSLCertificate) throws {
    self.certificate = try Certificate(derEncoded: certificate.toDERBytes())
  }

  /// The subject's common name; nil if it has none.
  var commonName: String? {
    for attribute in certificate.subject.flatMap({ $0 })
    where attribute.type == .RDNAttributeType.commonName {
      return String(attribute.value)
    }
    return nil
  }

  var serialNumber: [UInt8] { Array(certificate.serialNumber.bytes) }
  var issuer: DistinguishedName { certificate.issuer }

  /// Whether the certificate is good for a host name or numeric address, by its alternative names alone.
  func isValid(for host: String) -> Bool {
    guard let names = try? certificate.extensions.subjectAlternativeNames else { return false }
    let address = CertificateIdentity.addressBytes(host)
    for name in names {
      switch name {
      case .dnsName(let pattern):
        if address == nil, Self.matches(pattern, host) { return true }
      case .ipAddress(let bytes):
        if let address, address.elementsEqual(bytes.bytes) { return true }
      default: break
      }
    }
    return false
  }

  /// Whether a name matches a pattern whose first label may be an asterisk, which stands for one whole
  /// label (RFC 6125).
  static func matches(_ pattern: String, _ host: String) -> Bool {
    func labels(_ name: String) -> [Substring] {
      (name.hasSuffix(".") ? name.dropLast() : name[...]).split(
        separator: ".", omittingEmptySubsequences: false)
    }
    let (wanted, given) = (labels(pattern.lowercased()), labels(host.lowercased()))
    guard wanted.count == given.count, !given.contains("") else { return false }
    if wanted[0] == "*", wanted.count > 1 { return wanted.dropFirst() == given.dropFirst() }
    return wanted == given
  }

  /// The 4 or 16 bytes of a numeric address, or nil for a name.
  static func addressBytes(_ text: String) -> [UInt8]? {
    var v4 = in_addr()
    if inet_pton(AF_INET, text, &v4) == 1 { return withUnsafeBytes(of: v4) { Array($0) } }
    var v6 = in6_addr()
    if inet_pton(AF_INET6, text, &v6) == 1 { return withUnsafeBytes(of: v6) { Array($0) } }
    return nil
  }
}
