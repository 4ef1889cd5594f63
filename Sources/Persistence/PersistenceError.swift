import Primitives

/// Why something could not be read from or kept on disk, and what to do about it.
public struct PersistenceError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The kind of failure. New kinds may come; a `switch` over them needs a default.
  public struct Code: Hashable, Sendable, CustomStringConvertible {
    enum Kind: String {
      case corrupt, foreign, newerFormat, locked, diskFull, io, missing, gap
      case released, stopped, invalid
    }
    var kind: Kind
    init(_ kind: Kind) { self.kind = kind }

    /// Bytes on disk are not what was written. Never repaired by cutting; a member restores from peers.
    public static let corrupt = Code(.corrupt)
    /// The files belong to another cluster or member.
    public static let foreign = Code(.foreign)
    /// The files were written by a newer release, in a format this one doesn't know.
    public static let newerFormat = Code(.newerFormat)
    /// Another process holds the directory.
    public static let locked = Code(.locked)
    /// The file system or quota is exhausted (ENOSPC, EDQUOT).
    public static let diskFull = Code(.diskFull)
    /// The operating system reported any other failure.
    public static let io = Code(.io)
    /// A file or directory that was asked for doesn't exist.
    public static let missing = Code(.missing)
    /// The log begins after the newest usable snapshot ends: entries between them are lost.
    public static let gap = Code(.gap)
    /// The entries that were asked for were released behind a snapshot; send the snapshot instead.
    public static let released = Code(.released)
    /// The log met an error before and takes nothing more until the member restarts.
    public static let stopped = Code(.stopped)
    /// A peer or caller handed over bytes that don't fit (a chunk past the announced end, say).
    public static let invalid = Code(.invalid)

    public var description: String { kind.rawValue }
  }

  public var code: Code
  /// What happened, and what the operator can do.
  public var message: String
  /// The file or directory concerned, if one is.
  public var path: String?
  /// The position in the file, in bytes from its start, where that is known.
  public var offset: UInt64?

  public init(_ code: Code, _ message: String, path: String? = nil, offset: UInt64? = nil) {
    self.code = code
    self.message = message
    self.path = path
    self.offset = offset
  }

  public var description: String {
    var text = "\(code): \(message)"
    if let path { text += " [\(path)" }
    if let offset { text += path == nil ? " [at byte \(offset)" : " at byte \(offset)" }
    if path != nil || offset != nil { text += "]" }
    return text
  }
}
