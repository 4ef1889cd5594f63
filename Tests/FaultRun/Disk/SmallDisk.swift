import Foundation
import TestKit

#if canImport(Glibc)
  import Glibc
#endif

/// A small ext4 file system in a file, which can be filled up.
final class SmallDisk {
  let path: String
  private var ballast: String { "\(path)/ballast" }

  /// Why there can be none here, nil if there can.
  static let obstacle: String? =
    Tool.path("mkfs.ext4") == nil
    ? "there is no mkfs.ext4 here"
    : access("/dev/loop-control", W_OK) != 0 ? "there are no loop devices here" : nil

  /// - Parameter mebibytes: its size, with all that ext4 needs for itself.
  init(in folder: String, name: String, mebibytes: Int) throws {
    path = "\(folder)/\(name)"
    let image = "\(folder)/\(name).ext4"
    try Tool.run("truncate", ["-s", "\(mebibytes)M", image])
    try Tool.run("mkfs.ext4", ["-q", "-m", "0", image])
    try Tool.run("mkdir", ["-p", path])
    try Tool.run("mount", ["-o", "loop", image, path])
  }

  /// Takes all free space.
  func fill() throws {
    let handle = open(ballast, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
    guard handle >= 0 else { throw ProgramError("cannot make \(ballast): \(String(cString: strerror(errno)))") }
    defer { close(handle) }
    // Pieces become smaller as space does, down to a block.
    var piece = 64 << 20
    var end: off_t = 0
    while piece >= 4096 {
      if posix_fallocate(handle, end, off_t(piece)) == 0 { end += off_t(piece) } else { piece /= 2 }
    }
  }

  /// Gives the space back.
  func clear() { unlink(ballast) }
}
