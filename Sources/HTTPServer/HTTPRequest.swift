/// One request, read completely: its head, its body, and who sent it.
///
/// Bodies are collected before the handler runs, within `HTTPLimits.requestBodyBytes`. What must flow
/// in both directions at once (exec, attach, port-forward) is an upgrade, not a request body.
public struct HTTPRequest: Sendable {
  /// `GET`, `PUT`, ... as it came: methods are case-sensitive.
  public var method: String
  public var target: RequestTarget
  public var fields: HTTPFields
  public var body: [UInt8]
  public var connection: ConnectionFacts

  public init(
    method: String, target: RequestTarget, fields: HTTPFields, body: [UInt8],
    connection: ConnectionFacts
  ) {
    self.method = method
    self.target = target
    self.fields = fields
    self.body = body
    self.connection = connection
  }
}

/// What a handler may know of the connection under a request.
public struct ConnectionFacts: Sendable {
  /// The peer's address, such as `127.0.0.1:51234`; for messages and audit only.
  public var peerAddress: String
  /// True where the connection is encrypted.
  public var isSecure: Bool
  /// The client's certificate, DER encoded. Its chain was verified against `TLSSettings.clientRoots`;
  /// nil where the client showed none.
  public var clientCertificate: [UInt8]?

  public init(peerAddress: String, isSecure: Bool, clientCertificate: [UInt8]?) {
    self.peerAddress = peerAddress
    self.isSecure = isSecure
    self.clientCertificate = clientCertificate
  }
}
