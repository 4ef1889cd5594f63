import APIServer
import Foundation
import HTTPServer
import Testing

@Suite("The cluster's certificates")
struct ClusterPKITests {
  @Test("are made once, readable by their owner only, and found again")
  func persistence() throws {
    let directory = TemporaryDirectory()
    let first = try ClusterPKI(directory: directory.path)
    let server = try first.ensureServer(hosts: ["localhost", "127.0.0.1"])
    let second = try ClusterPKI(directory: directory.path)
    #expect(second.authorityPEM == first.authorityPEM)
    #expect(
      try second.ensureServer(hosts: ["127.0.0.1"]).certificatePEM == server.certificatePEM)
    for name in try FileManager.default.contentsOfDirectory(atPath: directory.path + "/pki") {
      let attributes = try FileManager.default.attributesOfItem(
        atPath: "\(directory.path)/pki/\(name)")
      #expect(attributes[.posixPermissions] as? Int == 0o600, "\(name)")
    }
    #expect(try second.ensureAdminToken() == first.ensureAdminToken())
  }

  @Test("are renewed when less than 30% of their time remains, and not before")
  func renewal() throws {
    let directory = TemporaryDirectory()
    let start = Date()
    func admin(afterYears years: Double) throws -> String {
      try ClusterPKI(directory: directory.path, now: start + years * 365 * 86_400).ensureAdmin()
        .certificatePEM
    }
    _ = try ClusterPKI(directory: directory.path, now: start - 5 * 365 * 86_400)
    let first = try admin(afterYears: 0)
    // It ends with its authority, in five years, and so can't be renewed to anything longer.
    #expect(try admin(afterYears: 4.9) == first)
    let other = TemporaryDirectory()
    let pki = try ClusterPKI(directory: other.path, now: start)
    let server = try pki.ensureServer(hosts: ["a"])
    #expect(try pki.ensureServer(hosts: ["a"]).certificatePEM == server.certificatePEM)
    // A name is missing: a new certificate.
    #expect(try pki.ensureServer(hosts: ["a", "b"]).certificatePEM != server.certificatePEM)
  }

  @Test("are refused where a file is missing or belongs to another authority")
  func damage() throws {
    let directory = TemporaryDirectory()
    _ = try ClusterPKI(directory: directory.path)
    let other = TemporaryDirectory()
    _ = try ClusterPKI(directory: other.path)
    let key = directory.path + "/pki/ca.key"
    try FileManager.default.removeItem(atPath: key)
    var error = #expect(throws: PKIError.self) { try ClusterPKI(directory: directory.path) }
    #expect(error?.description.contains("ca.key is missing") == true)
    try FileManager.default.copyItem(atPath: other.path + "/pki/ca.key", toPath: key)
    error = #expect(throws: PKIError.self) { try ClusterPKI(directory: directory.path) }
    #expect(error?.description.contains("is not the key of ca.crt") == true)
  }
}

/// A directory that goes with the value.
final class TemporaryDirectory: Sendable {
  let path: String

  init() {
    path = NSTemporaryDirectory() + "martlet-" + UUID().uuidString
    try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }
}
