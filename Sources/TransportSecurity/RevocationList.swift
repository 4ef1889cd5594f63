import Foundation
import SwiftASN1
import X509

/// The certificates that an issuer takes back (RFC 5280, section 5).
///
/// As in etcd the list's own signature and dates count for nothing: whoever can write the file runs the
/// member.
struct RevocationList {
  private let issuer: DistinguishedName
  private let serialNumbers: Set<[UInt8]>

  /// Reads a list in PEM or DER form.
  init(_ bytes: [UInt8]) throws {
    var der = bytes
    let text = String(decoding: bytes, as: UTF8.self)
    if text.contains("-----BEGIN") {
      der = try PEMDocument(pemString: text).derBytes
    }
    let root = try DER.parse(der)
    (issuer, serialNumbers) = try DER.sequence(root, identifier: .sequence) { list in
      guard let content = list.next() else {
        throw TransportSecurityError("a revocation list without contents")
      }
      // The signature's algorithm and the signature.
      while list.next() != nil {}
      return try DER.sequence(content, identifier: .sequence) { nodes in
        var node = nodes.next()
        if node?.identifier == .integer { node = nodes.next() }  // The version.
        guard node != nil, let name = nodes.next() else {
          throw TransportSecurityError("a revocation list without an issuer")
        }
        let issuer = try DistinguishedName(derEncoded: name)
        var revoked: Set<[UInt8]> = []
        while let next = nodes.next() {
          // Dates come before; extensions, which are tagged, after.
          guard next.identifier == .sequence else { continue }
          _ = try DER.sequence(of: Entry.self, identifier: .sequence, rootNode: next).map {
            revoked.insert($0.serialNumber)
          }
        }
        return (issuer, revoked)
      }
    }
  }

  func contains(_ certificate: CertificateIdentity) -> Bool {
    certificate.issuer == issuer
      && serialNumbers.contains(Self.trimmed(certificate.serialNumber))
  }

  /// A number's bytes without leading zeros, so that two ways to write it are equal.
  static func trimmed(_ bytes: some Sequence<UInt8>) -> [UInt8] {
    Array(Array(bytes).drop { $0 == 0 })
  }

  private struct Entry: DERParseable {
    let serialNumber: [UInt8]

    init(derEncoded node: ASN1Node) throws {
      serialNumber = try DER.sequence(node, identifier: .sequence) { nodes in
        let number = try ArraySlice<UInt8>(derEncoded: &nodes)
        while nodes.next() != nil {}
        return RevocationList.trimmed(number)
      }
    }
  }
}
