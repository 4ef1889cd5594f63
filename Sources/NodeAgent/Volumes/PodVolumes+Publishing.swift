import Glibc
import KubeAPI

/// How content appears in a volume: all of it at once.
extension PodVolumes {
  /// Writes the files into a fresh directory and switches the volume to it in one step.
  func publish(_ files: Files, to volume: String, group: UInt32?) throws {
    try Disk.makeDirectories(volume, mode: 0o755)
    if isShown(files, by: volume) { return }
    let before = Self.link(volume + "/..data")
    let version = "..\(Timestamp.wallClock().nanosecondText)"
    let directory = "\(volume)/\(version)"
    for (path, file) in files.byPath {
      let target = "\(directory)/\(path)"
      if let slash = target.lastIndex(of: "/") {
        try Disk.makeDirectories(String(target[..<slash]), mode: 0o755)
      }
      try Disk.write(file.content, to: target, mode: file.mode)
      if group != nil || file.owner != nil { chown(target, file.owner ?? 0, group ?? 0) }
      if group != nil { chmod(target, file.mode | (file.mode & 0o600) >> 3) }
    }
    try Disk.makeDirectories(directory, mode: 0o755)
    let names = Set(files.byPath.keys.map { String($0.prefix { $0 != "/" }) })
    for name in names where Self.link("\(volume)/\(name)") != "..data/\(name)" {
      unlink("\(volume)/\(name)")
      guard symlink("..data/\(name)", "\(volume)/\(name)") == 0 else {
        throw SystemError("link", name)
      }
    }
    let link = volume + "/..data_tmp"
    unlink(link)
    guard symlink(version, link) == 0, rename(link, volume + "/..data") == 0 else {
      throw SystemError("switch", volume)
    }
    guard let before else { return }
    for name in Disk.names(in: volume) where !name.hasPrefix("..") && !names.contains(name) {
      unlink("\(volume)/\(name)")
    }
    if before.hasPrefix(".."), !before.contains("/") {
      try? Disk.removeTree("\(volume)/\(before)")
    }
  }

  private static func link(_ path: String) -> String? {
    var buffer = [UInt8](repeating: 0, count: 4_096)
    let count = readlink(path, &buffer, buffer.count)
    return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : nil
  }

  /// Whether a volume already has exactly this content.
  private func isShown(_ files: Files, by volume: String) -> Bool {
    guard Disk.kind(volume + "/..data") != nil else { return false }
    let shown = Set(Disk.names(in: volume).filter { !$0.hasPrefix("..") })
    guard shown == Set(files.byPath.keys.map({ String($0.prefix { $0 != "/" }) })) else {
      return false
    }
    return Self.count(volume + "/..data/") == files.byPath.count
      && files.byPath.allSatisfy { path, file in
        (try? Disk.read("\(volume)/..data/\(path)")) == file.content
      }
  }

  /// How many files lie below a directory.
  private static func count(_ directory: String) -> Int {
    Disk.names(in: directory).reduce(0) { sum, name in
      let path = "\(directory)/\(name)"
      return sum + (Disk.kind(path) == .directory ? count(path) : 1)
    }
  }
}
