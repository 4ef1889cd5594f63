import Foundation

/// Files that only their owner may read, replaced atomically.
struct SecretFiles {
  let directory: String

  /// Makes the directory, mode 0700, if it isn't there.
  func prepare() throws {
    do {
      try FileManager.default.createDirectory(
        atPath: directory, withIntermediateDirectories: true,
        attributes: [.posixPermissions: 0o700])
    } catch {
      throw PKIError("can't make the directory \(directory): \(error.localizedDescription)")
    }
  }

  /// The file's text, or nil where there is no such file.
  func read(_ name: String) throws -> String? {
    let path = directory + "/" + name
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    guard let data = FileManager.default.contents(atPath: path),
      let text = String(data: data, encoding: .utf8)
    else { throw PKIError("can't read \(path)") }
    return text
  }

  /// Writes to a temporary name, mode 0600 from its first byte on, syncs and renames.
  func write(_ name: String, _ text: String) throws {
    let path = directory + "/" + name
    let temporary = "\(path).\(getpid()).tmp"
    unlink(temporary)
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw PKIError("can't write \(path): \(reason())") }
    defer { close(descriptor) }
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
      let written = bytes.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
      if written < 0 {
        if errno == EINTR { continue }
        let message = reason()
        unlink(temporary)
        throw PKIError("can't write \(path): \(message)")
      }
      bytes = bytes.dropFirst(written)
    }
    guard fsync(descriptor) == 0, rename(temporary, path) == 0 else {
      let message = reason()
      unlink(temporary)
      throw PKIError("can't write \(path): \(message)")
    }
  }

  private func reason() -> String { String(cString: strerror(errno)) }
}
