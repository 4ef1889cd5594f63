import CLinux
import Glibc
import KubeAPI

/// The few operations on files and directories that the agent needs, with one kind of error.
///
/// Blocking, and so never to be called from an event loop.
enum Disk {
  /// The largest file that is read whole: state files, manifests and configurations are far smaller.
  static let wholeFileBytes = 16 << 20

  static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  static func read(_ path: String, limit: Int = wholeFileBytes) throws(SystemError) -> [UInt8] {
    let file = try Descriptor(opening: path, O_RDONLY)
    var bytes: [UInt8] = []
    while true {
      let part = try file.read(upTo: 64 << 10)
      if part.isEmpty { return bytes }
      bytes += part
      if bytes.count > limit { throw SystemError("read", path, number: EFBIG) }
    }
  }

  /// Reads a file as text without surrounding white space; nil if it can't be read.
  static func readLine(_ path: String) -> String? {
    guard let bytes = try? read(path, limit: 1 << 20) else { return nil }
    let text = String(decoding: bytes, as: UTF8.self)
    return text.trimmingSpace
  }

  static func readJSON(_ path: String) throws -> Value {
    try Value(json: read(path))
  }

  /// Replaces a file in one step: readers see the old or the new content, never a part.
  ///
  /// - Parameter isDurable: whether the content is synced to the disk before the rename.
  static func write(
    _ bytes: [UInt8], to path: String, mode: mode_t = 0o600, isDurable: Bool = false
  ) throws(SystemError) {
    let temporary = path + ".new"
    unlink(temporary)
    do {
      let file = try Descriptor(
        opening: temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: mode)
      guard fchmod(file.number, mode) == 0 else { throw SystemError("chmod", temporary) }
      try file.writeAll(bytes)
      if isDurable, fdatasync(file.number) != 0 { throw SystemError("sync", temporary) }
    }
    guard rename(temporary, path) == 0 else { throw SystemError("rename", path) }
  }

  static func write(_ value: Value, to path: String, mode: mode_t = 0o600) throws(SystemError) {
    try write(value.json, to: path, mode: mode)
  }

  /// Creates a directory and those above it; existing ones stay as they are.
  static func makeDirectories(_ path: String, mode: mode_t = 0o755) throws(SystemError) {
    if mkdir(path, mode) == 0 || errno == EEXIST { return }
    guard errno == ENOENT, let slash = path.lastIndex(of: "/"), slash != path.startIndex else {
      throw SystemError("mkdir", path)
    }
    try makeDirectories(String(path[..<slash]), mode: mode)
    guard mkdir(path, mode) == 0 || errno == EEXIST else { throw SystemError("mkdir", path) }
  }

  /// The names in a directory, sorted; none if it can't be read.
  static func names(in path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  enum Kind { case directory, file, link, other }

  /// What a path names, links not followed; nil if nothing.
  static func kind(_ path: String) -> Kind? {
    var info = stat()
    guard lstat(path, &info) == 0 else { return nil }
    return switch info.st_mode & S_IFMT {
    case S_IFDIR: .directory
    case S_IFREG: .file
    case S_IFLNK: .link
    default: .other
    }
  }

  /// The type bits (`S_IFMT`) of what a path leads to, links followed; nil if nothing.
  static func type(_ path: String) -> mode_t? {
    var info = stat()
    return stat(path, &info) == 0 ? info.st_mode & S_IFMT : nil
  }

  /// Removes a file or a whole tree. It never follows symbolic links and never crosses into another
  /// file system, so a mount that is still there stops it with EBUSY instead of being emptied.
  static func removeTree(_ path: String) throws(SystemError) {
    var info = stat()
    guard lstat(path, &info) == 0 else {
      if errno == ENOENT { return }
      throw SystemError("stat", path)
    }
    try removeTree(path, device: info.st_dev, depth: 0)
  }

  private static func removeTree(
    _ path: String, device: dev_t, depth: Int
  ) throws(SystemError) {
    var info = stat()
    guard lstat(path, &info) == 0 else {
      if errno == ENOENT { return }
      throw SystemError("stat", path)
    }
    if info.st_mode & S_IFMT == S_IFDIR {
      guard info.st_dev == device else { throw SystemError("remove", path, number: EBUSY) }
      // A container may nest directories as deep as paths can name; beyond that give up cleanly.
      guard depth < 2_000 else { throw SystemError("remove", path, number: ENAMETOOLONG) }
      for name in names(in: path) {
        try removeTree(path + "/" + name, device: device, depth: depth + 1)
      }
      guard rmdir(path) == 0 || errno == ENOENT else { throw SystemError("rmdir", path) }
    } else {
      guard unlink(path) == 0 || errno == ENOENT else { throw SystemError("unlink", path) }
    }
  }

  /// Bytes in all and available on the file system of `path`, and files (inodes) it can hold.
  static func capacity(of path: String) -> (total: Int64, available: Int64, files: Int64)? {
    var info = statvfs()
    guard statvfs(path, &info) == 0 else { return nil }
    let unit = UInt64(info.f_frsize)
    return (
      Int64(clamping: UInt64(info.f_blocks).multipliedReportingOverflow(by: unit).partialValue),
      Int64(clamping: UInt64(info.f_bavail).multipliedReportingOverflow(by: unit).partialValue),
      Int64(clamping: UInt64(info.f_files))
    )
  }
}

extension String {
  /// Without white space at both ends.
  var trimmingSpace: String {
    var text = Substring(self)
    while let first = text.first, first.isWhitespace { text.removeFirst() }
    while let last = text.last, last.isWhitespace { text.removeLast() }
    return String(text)
  }
}
