/// Why a listener could not start or a response could not be sent.
public struct HTTPServerError: Error, Sendable, CustomStringConvertible {
  public enum Code: Hashable, Sendable {
    /// The address is in use, not ours, or not permitted.
    case cannotListen
    /// A certificate or key could not be used.
    case invalidTLSSettings
    /// The client closed the connection.
    case connectionClosed
    /// The client stopped reading.
    case readerStalled
  }
  public var code: Code
  /// One line that says what happened and, where there is one, the fix.
  public var message: String

  public init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }

  public var description: String { message }
}
