import Glibc
import Primitives
import Synchronization

/// Linux's file system, by plain system calls on the calling thread.
///
/// Files stay open between operations (the log writes to one for hours), at most
/// `Limits.openFiles`, the least recently used closed first. Bytes are written with `pwrite` and made
/// durable with `fdatasync`; `O_DIRECT` was left out because the log wants its unaligned tail page in
/// the page cache, and io_uring because a linked write and sync was no faster than two calls.
public final class LinuxFileSystem: FileSystem {
  public enum Limits {
    /// Files kept open: the log's few segments, the snapshots in transfer, and room.
    public static let openFiles = 32
    /// Bytes zeroed by one write while a segment is prepared: large enough for full disk speed, small
    /// enough that the log's own sync never waits long behind it.
    public static let zeroFillBytes = 1 << 20
    /// The most that one `read` returns, so that a damaged length can't exhaust memory.
    public static let readBytes = 1 << 30
  }

  /// An open file, closed when the last operation that uses it is through.
  final class Handle: Sendable {
    let descriptor: Int32
    init(descriptor: Int32) { self.descriptor = descriptor }
    deinit { close(descriptor) }
  }

  struct State {
    /// Open files, most recently used last.
    var open: [(path: String, handle: Handle)] = []
    /// Directories this process has locked.
    var locks: [String: Handle] = [:]
  }

  let state = Mutex(State())

  public init() {}

  public func perform(_ operation: FileOperation) throws(PersistenceError) -> FileAnswer {
    switch operation {
    case .write(let path, let offset, let bytes):
      let handle = try handle(path, create: true)
      try bytes.withUnsafeBytes { (pointer: UnsafeRawBufferPointer) throws(PersistenceError) in
        try write(pointer, to: handle, at: offset, path: path)
      }
      return .done
    case .read(let path, let offset, let count):
      return .bytes(try read(path, at: offset, upTo: count))
    case .allocate(let path, let size):
      try allocate(path, size: size)
      return .done
    case .truncate(let path, let size):
      let handle = try handle(path, create: true)
      try check("ftruncate", path: path, offset: size) {
        ftruncate(handle.descriptor, off_t(clamping: size))
      }
      return .done
    case .syncData(let path):
      let handle = try handle(path, create: false)
      // Not retried, not even after EINTR: a second success would prove nothing.
      if fdatasync(handle.descriptor) != 0 {
        throw failure("fdatasync", errno, path: path)
      }
      return .done
    case .syncDirectory(let path):
      try syncDirectory(path)
      return .done
    case .rename(let from, let to):
      forget(from)
      forget(to)
      if Glibc.rename(from, to) != 0 { throw failure("rename to \(to)", errno, path: from) }
      return .done
    case .remove(let path):
      forget(path)
      if unlink(path) != 0 && errno != ENOENT { throw failure("unlink", errno, path: path) }
      return .done
    case .createDirectory(let path):
      try createDirectory(path)
      return .done
    case .list(let directory):
      return .names(try names(in: directory))
    case .size(let path):
      var status = stat()
      if stat(path, &status) != 0 {
        if errno == ENOENT { return .size(nil) }
        throw failure("stat", errno, path: path)
      }
      return .size(UInt64(clamping: status.st_size))
    case .space(let path):
      var status = statvfs()
      try check("statvfs", path: path) { statvfs(path, &status) }
      let unit = UInt64(status.f_frsize)
      return .space(
        available: unit.multipliedClamping(by: UInt64(status.f_bavail)),
        total: unit.multipliedClamping(by: UInt64(status.f_blocks)))
    case .lockDirectory(let path):
      try lock(path)
      return .done
    case .unlockDirectory(let path):
      state.withLock { state in _ = state.locks.removeValue(forKey: path) }
      return .done
    }
  }
}

extension UInt64 {
  /// The product, or the largest number if it doesn't fit.
  fileprivate func multipliedClamping(by other: UInt64) -> UInt64 {
    let (product, overflow) = multipliedReportingOverflow(by: other)
    return overflow ? .max : product
  }
}
