import Foundation
import NIOSSL

/// What the files of one port hold at one time.
struct LoadedFiles {
  /// For connections that are accepted.
  let server: NIOSSLContext?
  /// For connections that are opened.
  let client: NIOSSLContext
  let revoked: RevocationList?

  init(_ options: TLSOptions) throws {
    func chain(_ certificate: String?, _ key: String?) throws -> (
      [NIOSSLCertificateSource], NIOSSLPrivateKeySource
    )? {
      guard let certificate, let key else { return nil }
      do {
        return (
          try NIOSSLCertificate.fromPEMFile(certificate).map { .certificate($0) },
          .privateKey(try NIOSSLPrivateKey(file: key, format: .pem))
        )
      } catch {
        throw TransportSecurityError(
          "the certificate \(certificate) or its key \(key) can't be used: \(error)")
      }
    }
    let ciphers = try CipherSuites.parse(options.cipherSuites)
    func restrict(_ configuration: inout TLSConfiguration) throws {
      configuration.minimumTLSVersion = options.minimumVersion == .tls13 ? .tlsv13 : .tlsv12
      switch options.maximumVersion {
      case .tls12: configuration.maximumTLSVersion = .tlsv12
      case .tls13: configuration.maximumTLSVersion = .tlsv13
      case nil: break
      }
      if !ciphers.isEmpty { configuration.cipherSuiteValues = ciphers }
      if let file = options.trustedCAFile {
        do {
          configuration.trustRoots = .certificates(try NIOSSLCertificate.fromPEMFile(file))
        } catch {
          throw TransportSecurityError("the trusted certificates in \(file) can't be used: \(error)")
        }
      }
    }

    let own = try chain(options.certificateFile, options.keyFile)
    if let (certificates, key) = own {
      var configuration = TLSConfiguration.makeServerConfiguration(
        certificateChain: certificates, privateKey: key)
      try restrict(&configuration)
      configuration.applicationProtocols = ["h2", "http/1.1"]
      configuration.certificateVerification =
        options.verifiesClients ? .noHostnameVerification : .none
      configuration.sendCANameList = options.verifiesClients && options.trustedCAFile != nil
      server = try NIOSSLContext(configuration: configuration)
    } else {
      server = nil
    }

    var configuration = TLSConfiguration.makeClientConfiguration()
    try restrict(&configuration)
    let shown = try chain(options.clientCertificateFile, options.clientKeyFile) ?? own
    if let (certificates, key) = shown {
      configuration.certificateChain = certificates
      configuration.privateKey = key
    }
    if options.isSelfSigned { configuration.certificateVerification = .none }
    client = try NIOSSLContext(configuration: configuration)

    if let file = options.revocationFile {
      do {
        revoked = try RevocationList([UInt8](try Data(contentsOf: URL(filePath: file))))
      } catch {
        throw TransportSecurityError("the revocation list \(file) can't be used: \(error)")
      }
    } else {
      revoked = nil
    }
  }
}

/// When files changed last, as far as one can tell without reading them.
struct FileStamps: Equatable {
  private struct Stamp: Equatable {
    var seconds: Int
    var nanoseconds: Int
    var size: Int
    var inode: UInt
  }
  private let stamps: [Stamp?]

  init(_ options: TLSOptions) {
    stamps = [
      options.certificateFile, options.keyFile, options.clientCertificateFile,
      options.clientKeyFile, options.trustedCAFile, options.revocationFile,
    ].map { path in
      guard let path else { return nil }
      var status = stat()
      guard stat(path, &status) == 0 else { return nil }
      return Stamp(
        seconds: status.st_mtim.tv_sec, nanoseconds: status.st_mtim.tv_nsec,
        size: Int(status.st_size), inode: UInt(status.st_ino))
    }
  }
}
