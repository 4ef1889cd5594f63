/// The name of a container image, taken apart: `[registry/]path[:tag][@digest]`.
public struct ImageReference: Sendable, Hashable, CustomStringConvertible {
  /// The part before the tag, as written.
  public let repository: String
  public let tag: String?
  public let digest: String?

  public init(_ text: String) {
    var rest = text[...]
    if let at = rest.firstIndex(of: "@") {
      digest = String(rest[rest.index(after: at)...])
      rest = rest[..<at]
    } else {
      digest = nil
    }
    // A colon before the last slash belongs to the registry's port.
    let lastPart = rest.lastIndex(of: "/").map { rest.index(after: $0) } ?? rest.startIndex
    if let colon = rest[lastPart...].lastIndex(of: ":") {
      tag = String(rest[rest.index(after: colon)...])
      rest = rest[..<colon]
    } else {
      tag = nil
    }
    repository = String(rest)
  }

  /// With the default registry, namespace and tag filled in: `busybox` is
  /// `docker.io/library/busybox:latest`.
  public var normalised: ImageReference {
    let parts = repository.split(separator: "/", omittingEmptySubsequences: false)
    let first = parts.first ?? ""
    let hasRegistry =
      parts.count > 1 && (first.contains(".") || first.contains(":") || first == "localhost")
    var name = repository
    if !hasRegistry { name = "docker.io/" + (parts.count == 1 ? "library/" : "") + name }
    return ImageReference(
      repository: name, tag: tag ?? (digest == nil ? "latest" : nil), digest: digest)
  }

  private init(repository: String, tag: String?, digest: String?) {
    self.repository = repository
    self.tag = tag
    self.digest = digest
  }

  public var description: String {
    repository + (tag.map { ":" + $0 } ?? "") + (digest.map { "@" + $0 } ?? "")
  }
}
