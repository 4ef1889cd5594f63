import CLinux
import Glibc

/// Unpacks one image layer into a directory, in the form that overlayfs mounts.
///
/// A layer is a tar archive of what it adds, and of marks for what it takes away: `.wh.NAME` deletes a
/// name of the layers below, `.wh..wh..opq` hides all of a directory's content below. overlayfs wants
/// a character device 0:0 and an extended attribute instead.
///
/// The archive is foreign and we are root, so no entry may touch anything outside of the directory:
///
/// - absolute paths and paths with `..` are errors, not repaired;
/// - parents are opened as if the directory were the root (`openat2` with `RESOLVE_IN_ROOT`), so a
///   symbolic link on the way, from an earlier entry, leads nowhere else;
/// - the last component is created by calls that follow no link.
struct LayerUnpacker: ~Copyable {
  enum Limits {
    /// Most entries of a layer.
    static let entries = 2_000_000
    /// Most bytes of content of a layer.
    static let contentBytes: Int64 = 64 << 30
  }

  private let root: Descriptor
  /// The parent of the entry before, because neighbours share it.
  private var parent: (path: String, number: Int32)?
  /// Directories' times are set at the end: creating entries in them changes them.
  private var directoryTimes: [(path: String, seconds: Int64)] = []

  /// - Parameter directory: an existing, empty directory.
  init(into directory: String) throws(SystemError) {
    root = try Descriptor(opening: directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
  }

  deinit {
    if let parent { close(parent.number) }
  }

  /// Unpacks everything and returns the digest of the uncompressed archive, the layer's `diff_id`.
  mutating func unpack(_ path: String) throws -> Digest {
    var reader = TarReader(InflatingSource(try FileSource(path)))
    var entries = 0
    var contentBytes: Int64 = 0
    while let entry = try reader.next() {
      entries += 1
      contentBytes += entry.size
      guard entries <= Limits.entries, contentBytes <= Limits.contentBytes else {
        throw ImageError(.refused, "a layer of more entries or bytes than are accepted")
      }
      do {
        try unpack(entry, &reader)
      } catch let error as SystemError {
        throw ImageError(.system, "unpacking \(entry.path): \(error)")
      }
    }
    for (path, seconds) in directoryTimes.reversed() {
      guard
        let directory = try? Descriptor(opening: path, inRoot: root, O_RDONLY | O_DIRECTORY)
      else { continue }
      var times = Self.times(seconds)
      futimens(directory.number, &times)
    }
    return try reader.finish().digest
  }

  // MARK: Entries

  private mutating func unpack(
    _ entry: TarEntry, _ reader: inout TarReader<InflatingSource>
  ) throws {
    let components = try Self.components(entry.path)
    guard let name = components.last else {
      // The root itself: only its attributes matter.
      if entry.kind == .directory {
        fchown(root.number, entry.user, entry.group)
        fchmod(root.number, entry.mode)
      }
      return
    }
    let directory = try openParent(components.dropLast())

    if name.hasPrefix(".wh.") {
      if name == ".wh..wh..opq" {
        try SystemError.check(clinux_mark_opaque(directory), "mark as opaque", entry.path)
      } else if !name.hasPrefix(".wh..wh.") {
        let hidden = String(name.dropFirst(4))
        guard !hidden.isEmpty, hidden != ".", hidden != ".." else {
          throw ImageError(.corrupt, "\(entry.path): a whiteout of nothing")
        }
        try remove(hidden, in: directory)
        try SystemError.check(clinux_make_whiteout(directory, hidden), "whiteout", entry.path)
      }
      return
    }

    if entry.kind != .directory { try remove(name, in: directory) }
    switch entry.kind {
    case .directory:
      if mkdirat(directory, name, 0o755) != 0 {
        guard errno == EEXIST else { throw SystemError("mkdir") }
        // Not `stat`: which module declares it depends on the order in which this one's files are compiled.
        let existing = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        if existing >= 0 {
          close(existing)
        } else {
          try remove(name, in: directory)
          guard mkdirat(directory, name, 0o755) == 0 else { throw SystemError("mkdir") }
        }
      }
      fchownat(directory, name, entry.user, entry.group, AT_SYMLINK_NOFOLLOW)
      guard fchmodat(directory, name, entry.mode, 0) == 0 else { throw SystemError("chmod") }
      directoryTimes.append((components.joined(separator: "/"), entry.modificationTime))
    case .file: try unpackFile(entry, name, in: directory, &reader)
    case .symbolicLink:
      guard symlinkat(entry.target, directory, name) == 0 else { throw SystemError("symlink") }
      fchownat(directory, name, entry.user, entry.group, AT_SYMLINK_NOFOLLOW)
    case .hardLink: try link(entry, name, in: directory)
    case .characterDevice, .blockDevice, .fifo:
      let type: mode_t =
        switch entry.kind {
        case .characterDevice: S_IFCHR
        case .blockDevice: S_IFBLK
        default: S_IFIFO
        }
      if entry.kind == .characterDevice, entry.deviceMajor == 0, entry.deviceMinor == 0 {
        throw ImageError(.refused, "\(entry.path): a device 0:0 would act as a whiteout")
      }
      try SystemError.check(
        clinux_make_node(
          directory, name, UInt32(type) | entry.mode, entry.deviceMajor, entry.deviceMinor),
        "mknod")
      fchownat(directory, name, entry.user, entry.group, AT_SYMLINK_NOFOLLOW)
    }
  }

  private func unpackFile(
    _ entry: TarEntry, _ name: String, in directory: Int32,
    _ reader: inout TarReader<InflatingSource>
  ) throws {
    let number = openat(
      directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard number >= 0 else { throw SystemError("create") }
    let file = Descriptor(owning: number)
    while true {
      let piece = try reader.readContent()
      if piece.isEmpty { break }
      try file.writeAll(piece)
    }
    fchown(file.number, entry.user, entry.group)
    // After the owner: changing that clears the set-id bits.
    guard fchmod(file.number, entry.mode) == 0 else { throw SystemError("chmod") }
    if let capabilities = entry.capabilities {
      let outcome = capabilities.withUnsafeBytes { bytes in
        bytes.isEmpty ? 0 : clinux_set_capabilities(number, bytes.baseAddress!, bytes.count)
      }
      try SystemError.check(outcome, "set capabilities")
    }
    var times = Self.times(entry.modificationTime)
    futimens(file.number, &times)
  }

  private func link(_ entry: TarEntry, _ name: String, in directory: Int32) throws {
    let target = try Self.components(entry.target)
    guard let targetName = target.last else {
      throw ImageError(.refused, "\(entry.path): a hard link to the root")
    }
    let source = try Descriptor(
      opening: target.dropLast().joined(separator: "/").orRoot, inRoot: root,
      O_RDONLY | O_DIRECTORY)
    guard linkat(source.number, targetName, directory, name, 0) == 0 else {
      throw SystemError("link")
    }
  }

  /// Opens a directory of the layer, creating what is missing as any archiver does.
  private mutating func openParent(_ components: ArraySlice<String>) throws -> Int32 {
    let path = components.joined(separator: "/")
    if let parent, parent.path == path { return parent.number }
    if let parent { close(parent.number) }
    parent = nil
    let number = try openDirectory(components)
    parent = (path, number)
    return number
  }

  private func openDirectory(_ components: ArraySlice<String>) throws(SystemError) -> Int32 {
    let path = components.joined(separator: "/").orRoot
    let number = clinux_open_in_root(root.number, path, O_RDONLY | O_DIRECTORY, 0)
    if number == -ENOENT { return try createParents(components) }
    return try SystemError.check(number, "open", path)
  }

  private func createParents(_ components: ArraySlice<String>) throws(SystemError) -> Int32 {
    var current = try openDirectory([])
    var path = ""
    for component in components {
      path += (path.isEmpty ? "" : "/") + component
      let created = mkdirat(current, component, 0o755)
      let failure = errno
      close(current)
      guard created == 0 || failure == EEXIST else {
        throw SystemError("mkdir", path, number: failure)
      }
      current = try SystemError.check(
        clinux_open_in_root(root.number, path, O_RDONLY | O_DIRECTORY, 0), "open", path)
    }
    return current
  }

  /// Removes what an earlier entry of the same layer left under this name.
  private func remove(_ name: String, in directory: Int32) throws {
    if unlinkat(directory, name, 0) == 0 || errno == ENOENT { return }
    guard errno == EISDIR || errno == EPERM else { throw SystemError("remove", name) }
    try Disk.removeTree("/proc/self/fd/\(directory)/\(name)")
  }

  // MARK: Names

  /// The parts of an entry's path; none for the root.
  static func components(_ path: String) throws -> [String] {
    guard !path.hasPrefix("/") else {
      throw ImageError(.refused, "\(path): an absolute path in a layer")
    }
    let components = path.split(separator: "/").filter { $0 != "." }.map(String.init)
    guard !components.contains("..") else {
      throw ImageError(.refused, "\(path): a path in a layer that leaves it")
    }
    return components
  }

  private static func times(_ seconds: Int64) -> [timespec] {
    [timespec(tv_sec: Int(seconds), tv_nsec: 0), timespec(tv_sec: Int(seconds), tv_nsec: 0)]
  }
}

extension String {
  /// The text, or `.` if it is empty: the name of a directory in itself.
  fileprivate var orRoot: String { isEmpty ? "." : self }
}
