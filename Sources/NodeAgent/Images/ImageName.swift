/// The name of an image, in the long form that registries and Kubernetes agree on.
///
/// `busybox` is short for `docker.io/library/busybox:latest`. The rules, from the distribution
/// project's reference grammar: what stands before the first slash is a registry if it holds a dot or
/// a colon or is `localhost`; without a registry it is Docker Hub, where a name without a slash lies
/// under `library/`; without tag and digest the tag is `latest`.
///
/// ```swift
/// ImageName("busybox")?.description                 // docker.io/library/busybox:latest
/// ImageName("localhost:5000/a/b:v1")?.repository    // localhost:5000/a/b
/// ImageName("UPPER/case")                           // nil
/// ```
public struct ImageName: Hashable, Sendable, CustomStringConvertible {
  /// Registry and path: `docker.io/library/busybox`.
  public var repository: String
  /// Nil only where a digest names the image.
  public var tag: String?
  public var digest: Digest?

  /// Longest accepted text, as in the distribution project.
  static let maximumLength = 1024

  /// Reads a reference; nil if it breaks the grammar.
  public init?(_ text: String) {
    guard !text.isEmpty, text.utf8.count <= Self.maximumLength else { return nil }
    var rest = Substring(text)
    digest = nil
    if let at = rest.firstIndex(of: "@") {
      guard let parsed = Digest(rest[rest.index(after: at)...]) else { return nil }
      digest = parsed
      rest = rest[..<at]
    }
    tag = nil
    if let colon = rest.lastIndex(of: ":"), !rest[colon...].contains("/") {
      let text = rest[rest.index(after: colon)...]
      guard Self.isTag(text) else { return nil }
      tag = String(text)
      rest = rest[..<colon]
    }
    if tag == nil && digest == nil { tag = "latest" }

    var registry = "docker.io"
    if let slash = rest.firstIndex(of: "/") {
      let first = rest[..<slash]
      if first.contains(".") || first.contains(":") || first == "localhost" {
        guard Self.isRegistry(first) else { return nil }
        registry = first == "index.docker.io" ? "docker.io" : String(first)
        rest = rest[rest.index(after: slash)...]
      }
    }
    guard !rest.isEmpty else { return nil }
    let components = rest.split(separator: "/", omittingEmptySubsequences: false)
    guard components.allSatisfy(Self.isPathComponent) else { return nil }
    let isOfficial = registry == "docker.io" && components.count == 1
    repository = registry + "/" + (isOfficial ? "library/" : "") + rest
  }

  public var description: String {
    repository + (tag.map { ":" + $0 } ?? "") + (digest.map { "@" + $0.description } ?? "")
  }

  private static func isAlphanumeric(_ byte: UInt8) -> Bool {
    (48...57).contains(byte) || (97...122).contains(byte)
  }

  /// Lower-case letters and digits, parted by one dot, one or two underscores, or dashes.
  private static func isPathComponent(_ text: Substring) -> Bool {
    let bytes = Array(text.utf8)
    guard let first = bytes.first, let last = bytes.last, isAlphanumeric(first),
      isAlphanumeric(last)
    else { return false }
    var separator: [UInt8] = []
    for byte in bytes {
      if isAlphanumeric(byte) {
        let isAllowed =
          separator.count <= 1 || separator == [95, 95] || separator.allSatisfy { $0 == 45 }
        guard isAllowed else { return false }
        separator = []
      } else if byte == 45 || byte == 46 || byte == 95 {
        separator.append(byte)
      } else {
        return false
      }
    }
    return true
  }

  private static func isTag(_ text: Substring) -> Bool {
    guard (1...128).contains(text.utf8.count), let first = text.utf8.first, first != 45, first != 46
    else { return false }
    return text.utf8.allSatisfy {
      isAlphanumeric($0) || (65...90).contains($0) || $0 == 45 || $0 == 46 || $0 == 95
    }
  }

  private static func isRegistry(_ text: Substring) -> Bool {
    var host = text
    if let colon = text.lastIndex(of: ":") {
      let port = text[text.index(after: colon)...]
      guard !port.isEmpty, port.utf8.allSatisfy({ (48...57).contains($0) }) else { return false }
      host = text[..<colon]
    }
    return !host.isEmpty
      && host.utf8.allSatisfy {
        isAlphanumeric($0) || (65...90).contains($0) || $0 == 45 || $0 == 46
      }
  }
}
