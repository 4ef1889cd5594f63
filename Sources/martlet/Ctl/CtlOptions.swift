import ArgumentParser
import EtcdClient
import EtcdServer
import Foundation
import NIOSSL

#if canImport(Glibc)
  import Glibc
#endif

/// The flags of every command of `martlet ctl`; each also comes from the environment, as `ETCDCTL_ENDPOINTS`.
struct CtlOptions: ParsableArguments {
  @Option(help: "gRPC endpoints, separated by commas (default 127.0.0.1:2379).")
  var endpoints: String?

  @Option(name: [.short, .long], help: "simple, fields, json, protobuf or table (default simple).")
  var writeOut: String?

  @Flag(help: "Print byte strings as hex encoded strings.")
  var hex = false

  @Option(help: "For one attempt to connect (default 2s).")
  var dialTimeout: String?

  @Option(help: "For short running commands, connecting excluded (default 5s).")
  var commandTimeout: String?

  @Option(
    help: .init("Taken for etcdctl's sake; connections end by themselves.", visibility: .hidden))
  var keepaliveTime: String?

  @Option(help: .init("Taken for etcdctl's sake.", visibility: .hidden))
  var keepaliveTimeout: String?

  @Flag(inversion: .prefixedNo, help: "Plain connections where nothing else is said.")
  var insecureTransport = true

  @Flag(inversion: .prefixedNo, help: .init("Taken for etcdctl's sake.", visibility: .hidden))
  var insecureDiscovery = true

  @Flag(help: "Take whatever certificate a server shows (never for data).")
  var insecureSkipTlsVerify = false

  @Option(help: "The client's certificate.")
  var cert: String?

  @Option(help: "The client's key.")
  var key: String?

  @Option(help: "The authorities that servers' certificates are verified by.")
  var cacert: String?

  @Option(help: "NAME[:PASSWORD]; asks for a password that isn't given.")
  var user: String?

  @Option(help: "The password of --user, which then is the name alone.")
  var password: String?

  @Flag(help: "Print the settings.")
  var debug = false

  static func environment(_ flag: String) -> String? {
    let name = "ETCDCTL_" + flag.uppercased().replacingOccurrences(of: "-", with: "_")
    guard let value = getenv(name).map({ String(cString: $0) }), !value.isEmpty else { return nil }
    return value
  }

  private func isOn(_ flag: Bool, _ name: String) throws -> Bool {
    guard let value = Self.environment(name) else { return flag }
    switch value {
    case "true", "1", "t", "T", "TRUE", "True": return true
    case "false", "0", "f", "F", "FALSE", "False": return flag
    default: throw CtlFailure.arguments("invalid value \(GoText.quoted(value)) for --\(name)")
    }
  }

  private func duration(_ value: String?, _ name: String, default text: String) throws -> Duration {
    let text = value ?? Self.environment(name) ?? text
    guard let duration = GoDuration.parse(text), duration > .zero else {
      throw CtlFailure.arguments("invalid argument \(GoText.quoted(text)) for \"--\(name)\" flag")
    }
    return duration
  }

  /// The endpoints as they were given.
  var endpointNames: [String] {
    (endpoints ?? Self.environment("endpoints") ?? "127.0.0.1:2379")
      .split(separator: ",").map(String.init)
  }

  func printer() throws -> CtlPrinter {
    let name = writeOut ?? Self.environment("write-out") ?? "simple"
    guard let format = CtlPrinter.Format(rawValue: name) else {
      throw CtlFailure(.badFeature, "unsupported output format")
    }
    return CtlPrinter(format, isHex: try isOn(hex, "hex"))
  }

  var commandTimeoutDuration: Duration {
    get throws { try duration(commandTimeout, "command-timeout", default: "5s") }
  }

  /// - Parameter endpoints: nil for those of the flags.
  func settings(endpoints: [String]? = nil) throws -> MessageClient.Settings {
    let security = CtlSecurity(
      certificate: cert ?? Self.environment("cert"), key: key ?? Self.environment("key"),
      authorities: cacert ?? Self.environment("cacert"),
      isPlain: try isOn(insecureTransport, "insecure-transport"),
      skipsVerification: try isOn(insecureSkipTlsVerify, "insecure-skip-tls-verify"))
    var settings = try security.settings(endpoints ?? endpointNames)
    settings.connectTimeout = try duration(dialTimeout, "dial-timeout", default: "2s")
    settings.callTimeout = try commandTimeoutDuration
    settings.user = try CtlSecurity.user(
      user ?? Self.environment("user"), password ?? Self.environment("password"), "Password: ")
    if debug {
      CtlOutput.complain("ETCDCTL_ENDPOINTS=\(endpointNames)")
      CtlOutput.complain("ETCDCTL_DIAL_TIMEOUT=\(GoText.duration(settings.connectTimeout))")
      CtlOutput.complain("ETCDCTL_COMMAND_TIMEOUT=\(GoText.duration(settings.callTimeout))")
    }
    return settings
  }

  /// A client that has logged in, where there is somebody to log in.
  func client(endpoints: [String]? = nil) async throws -> MessageClient {
    let client = MessageClient(try settings(endpoints: endpoints))
    if client.settings.user != nil {
      try await calling(status: .badConnection) { try await client.connect() }
    }
    return client
  }
}

/// How connections are secured, and who calls.
struct CtlSecurity {
  var certificate: String?
  var key: String?
  var authorities: String?
  /// Whether an endpoint without a scheme is plain, where no file says otherwise.
  var isPlain = true
  var skipsVerification = false

  func settings(_ names: [String]) throws -> MessageClient.Settings {
    func read(_ path: String?) throws -> String? {
      guard let path else { return nil }
      do { return try String(contentsOfFile: path, encoding: .utf8) } catch {
        throw CtlFailure.arguments("open \(path): \(String(cString: strerror(errno)))")
      }
    }
    let isSecure = certificate != nil || key != nil || authorities != nil || !isPlain
    let endpoints = try names.map { name in
      guard var endpoint = StoreClient.Endpoint(name) else {
        throw CtlFailure.arguments(
          "invalid endpoint \(GoText.quoted(name)): it is HOST:PORT, or a URL of that")
      }
      if !name.contains("://") { endpoint.isSecure = isSecure }
      return endpoint
    }
    guard !endpoints.isEmpty else { throw CtlFailure.arguments("--endpoints names none") }
    var settings = MessageClient.Settings(endpoints: endpoints)
    settings.tls = HTTP2Transport.TLS(
      roots: try read(authorities) ?? "", certificate: try read(certificate), key: try read(key))
    settings.tls.verifiesServer = !skipsVerification
    return settings
  }

  /// Takes `NAME:PASSWORD` apart; asks for the password where there is none.
  static func user(
    _ text: String?, _ password: String?, _ prompt: String
  ) throws -> (name: String, password: String)? {
    guard let text, !text.isEmpty else { return nil }
    if let password { return (text, password) }
    let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    if parts.count == 2 { return (String(parts[0]), String(parts[1])) }
    return (text, try askSecretly(prompt))
  }

  /// Asks at the terminal, which doesn't show what is typed.
  static func askSecretly(_ prompt: String) throws -> String {
    guard let answer = getpass(prompt) else {
      throw CtlFailure.arguments("failed to ask password: there is no terminal")
    }
    return String(cString: answer)
  }
}
