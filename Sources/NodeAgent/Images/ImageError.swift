/// Why an image could not be imported, found or unpacked.
public struct ImageError: Error, Sendable, CustomStringConvertible {
  public enum Code: Hashable, Sendable {
    /// The text is not an image reference.
    case invalidReference
    /// The store holds no image of that name for this platform.
    case notFound
    /// The content breaks the OCI format, or isn't what its digest says.
    case corrupt
    /// A layer would write outside of its directory, or passes a limit.
    case refused
    /// The disk failed.
    case system
  }
  public var code: Code
  /// What is wrong, with the name of the blob, entry or file.
  public var message: String

  public init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }

  init(_ error: SystemError) { self.init(.system, error.description) }

  public var description: String { message }
}
