import Logging
import NIOCore
import NIOSSL
import NIOTLS
import Synchronization

/// Secures the connections of one port by TLS.
///
/// Certificates, keys and revocation lists are files that change while a member runs: they are looked at
/// again when a connection is made, at most once a second, and what is new counts for that connection and
/// those after it. Files that can't be read, or don't fit each other (a certificate written a moment before
/// its key), leave what was there before in force.
public final class TransportSecurityContext: Sendable {
  private struct State {
    var files: LoadedFiles
    var stamps: FileStamps
    var checkedAt: UInt64
    /// Why the newest files aren't in use, so that it is logged once.
    var problem: String?
  }
  public let options: TLSOptions
  private let log: Logger
  private let state: Mutex<State>

  /// Reads the files.
  ///
  /// - Throws: ``TransportSecurityError`` that names the file that can't be used.
  public init(_ options: TLSOptions, log: Logger) throws {
    self.options = options
    self.log = log
    let stamps = FileStamps(options)
    state = Mutex(
      State(
        files: try LoadedFiles(options), stamps: stamps,
        checkedAt: NIODeadline.now().uptimeNanoseconds))
  }

  /// Adds TLS to a connection that was accepted. On its event loop, before other handlers.
  ///
  /// - Parameter onIdentity: told the common name of the other side's certificate, once it was verified.
  public func secureAccepted(
    _ channel: any Channel, onIdentity: (((any Channel), String?) -> Void)? = nil
  ) throws {
    let files = current()
    guard let context = files.server else {
      throw TransportSecurityError("there is no certificate to serve TLS with")
    }
    let pipeline = channel.pipeline.syncOperations
    try pipeline.addHandler(NIOSSLServerHandler(context: context))
    try pipeline.addHandler(
      HandshakeGuard(
        options: options, revoked: files.revoked, verifies: options.verifiesClients, log: log,
        onIdentity: onIdentity))
  }

  /// Adds TLS to a connection that is being opened to `host`. On its event loop, before other handlers.
  public func secureDialled(_ channel: any Channel, host: String) throws {
    let files = current()
    // An address can't be asked for by name; it is checked against the address connected to.
    let name = CertificateIdentity.addressBytes(host) == nil ? host : nil
    let pipeline = channel.pipeline.syncOperations
    try pipeline.addHandler(NIOSSLClientHandler(context: files.client, serverHostname: name))
    try pipeline.addHandler(
      HandshakeGuard(
        options: options, revoked: files.revoked, verifies: !options.isSelfSigned, log: log,
        onIdentity: nil))
  }

  private func current() -> LoadedFiles {
    let now = NIODeadline.now().uptimeNanoseconds
    return state.withLock { state in
      guard now >= state.checkedAt + Limits.reloadSeconds * 1_000_000_000 else {
        return state.files
      }
      state.checkedAt = now
      let stamps = FileStamps(options)
      guard stamps != state.stamps || state.problem != nil else { return state.files }
      do {
        state.files = try LoadedFiles(options)
        state.stamps = stamps
        state.problem = nil
        log.info("read changed certificates")
      } catch {
        if state.problem != "\(error)" {
          state.problem = "\(error)"
          log.error("changed certificates can't be used; the old ones stay", metadata: ["error": "\(error)"])
        }
      }
      return state.files
    }
  }
}

/// Stands behind the TLS handler: gives a handshake its time, and looks at the certificate that came out of
/// it before anything else is let through.
final class HandshakeGuard: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  private let options: TLSOptions
  private let revoked: RevocationList?
  private let verifies: Bool
  private let log: Logger
  private let onIdentity: (((any Channel), String?) -> Void)?
  private var timeout: Scheduled<Void>?
  private var isDone = false

  init(
    options: TLSOptions, revoked: RevocationList?, verifies: Bool, log: Logger,
    onIdentity: (((any Channel), String?) -> Void)?
  ) {
    self.options = options
    self.revoked = revoked
    self.verifies = verifies
    self.log = log
    self.onIdentity = onIdentity
  }

  func handlerAdded(context: ChannelHandlerContext) {
    timeout = context.eventLoop.assumeIsolated().scheduleTask(
      in: .seconds(Limits.handshakeSeconds)
    ) { [self] in
      if !isDone { context.close(promise: nil) }
    }
  }

  func handlerRemoved(context: ChannelHandlerContext) { timeout?.cancel() }

  func channelInactive(context: ChannelHandlerContext) {
    timeout?.cancel()
    context.fireChannelInactive()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard case TLSUserEvent.handshakeCompleted = event else {
      context.fireUserInboundEventTriggered(event)
      return
    }
    isDone = true
    timeout?.cancel()
    if verifies {
      do {
        try check(context)
      } catch {
        log.warning(
          "refused a TLS connection",
          metadata: [
            "remote": "\(context.channel.remoteAddress?.description ?? "unknown")",
            "reason": "\(error)",
          ])
        context.close(promise: nil)
        return
      }
    }
    context.fireUserInboundEventTriggered(event)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    if !isDone {
      log.warning(
        "a TLS handshake failed",
        metadata: [
          "remote": "\(context.channel.remoteAddress?.description ?? "unknown")",
          "error": "\(error)",
        ])
      context.close(promise: nil)
      return
    }
    context.fireErrorCaught(error)
  }

  /// Nothing may pass before the certificate was looked at.
  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    if isDone { context.fireChannelRead(data) }
  }

  private func check(_ context: ChannelHandlerContext) throws {
    let handler = try context.pipeline.syncOperations.handler(type: NIOSSLHandler.self)
    guard let certificate = handler.peerCertificate else {
      throw TransportSecurityError("the other side showed no certificate")
    }
    let identity = try CertificateIdentity(certificate)
    if revoked?.contains(identity) == true {
      throw TransportSecurityError(
        "the certificate with serial number \(certificate.serialNumber) is revoked")
    }
    if !options.allowedCommonNames.isEmpty {
      guard let name = identity.commonName, options.allowedCommonNames.contains(name) else {
        throw TransportSecurityError(
          "the certificate's common name \(identity.commonName ?? "(none)") is not allowed")
      }
    }
    if !options.allowedHostnames.isEmpty,
      !options.allowedHostnames.contains(where: { identity.isValid(for: $0) })
    {
      throw TransportSecurityError("the certificate is for none of the allowed host names")
    }
    onIdentity?(context.channel, identity.commonName)
  }
}
