import Foundation

/// Certificates for tests, made by openssl, each named by its common name and good for 127.0.0.1.
public final class TestCertificates {
  /// Whether this machine has openssl.
  public static let isPossible = FileManager.default.isExecutableFile(atPath: "/usr/bin/openssl")

  private let folder = TestFolder()
  private var serial = 100

  public init() throws {}

  /// A file's path: `NAME.crt`, `NAME.key` and, of an authority, `NAME.crl`.
  public func path(_ file: String) -> String { "\(folder.path)/\(file)" }

  public func issueAuthority(_ name: String) throws {
    try openssl(
      "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=\(name)"
        + " -keyout \(name).key -out \(name).crt")
  }

  /// Issues a certificate, or a new one in an older one's place.
  public func issue(_ name: String, by authority: String) throws {
    serial += 1
    try Data(
      """
      subjectAltName=IP:127.0.0.1,DNS:localhost
      extendedKeyUsage=serverAuth,clientAuth
      """.utf8
    ).write(to: URL(filePath: path("extensions")))
    try openssl(
      "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=\(name)"
        + " -keyout \(name).new -out request")
    try openssl(
      "x509 -req -in request -CA \(authority).crt -CAkey \(authority).key -days 2"
        + " -set_serial \(serial) -extfile extensions -out \(name).crt")
    try FileManager.default.removeItemIfThere(path("\(name).key"))
    try FileManager.default.moveItem(atPath: path("\(name).new"), toPath: path("\(name).key"))
  }

  /// Writes an authority's list of revoked certificates, `AUTHORITY.crl`.
  public func revoke(_ names: [String], by authority: String) throws {
    try Data(
      """
      [ca]
      default_ca=d
      [d]
      database=index
      default_md=sha256
      default_crl_days=2
      certificate=\(authority).crt
      private_key=\(authority).key
      """.utf8
    ).write(to: URL(filePath: path("ca.conf")))
    try Data().write(to: URL(filePath: path("index")))
    for name in names { try openssl("ca -config ca.conf -revoke \(name).crt") }
    try openssl("ca -config ca.conf -gencrl -out \(authority).crl")
  }

  private func openssl(_ arguments: String) throws {
    let outcome = try Program(path: "/bin/sh").run(
      ["-c", "cd \(folder.path) && exec openssl \(arguments)"])
    guard outcome.status == 0 else {
      throw ProgramError("openssl \(arguments): \(outcome.errors)")
    }
  }
}

extension FileManager {
  fileprivate func removeItemIfThere(_ path: String) throws {
    if fileExists(atPath: path) { try removeItem(atPath: path) }
  }
}
