import CLinux
import Glibc

/// An open file descriptor that closes when its owner goes.
struct Descriptor: ~Copyable {
  let number: Int32

  /// Takes ownership of `number`.
  init(owning number: Int32) { self.number = number }

  deinit { close(number) }

  /// Opens a path, close-on-exec.
  init(
    opening path: String, _ flags: Int32, mode: mode_t = 0o600
  ) throws(SystemError) {
    let number = open(path, flags | O_CLOEXEC, mode)
    guard number >= 0 else { throw SystemError("open", path) }
    self.init(owning: number)
  }

  /// Opens `name` as if `root` were the file system's root: no link and no `..` leaves it.
  init(
    opening name: String, inRoot root: borrowing Descriptor, _ flags: Int32, mode: UInt32 = 0o600
  ) throws(SystemError) {
    let number = clinux_open_in_root(root.number, name, flags, mode)
    self.init(owning: try SystemError.check(number, "open", name))
  }

  /// Gives the number away; the caller closes it.
  consuming func release() -> Int32 {
    let number = self.number
    discard self
    return number
  }

  func writeAll(_ bytes: UnsafeRawBufferPointer) throws(SystemError) {
    var offset = 0
    while offset < bytes.count {
      let count = write(number, bytes.baseAddress! + offset, bytes.count - offset)
      if count < 0 {
        if errno == EINTR { continue }
        throw SystemError("write")
      }
      offset += count
    }
  }

  func writeAll(_ bytes: some ContiguousBytesToWrite) throws(SystemError) {
    var failure: SystemError?
    bytes.withUnsafeBytes { buffer in
      do throws(SystemError) { try writeAll(buffer) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  var isRegularFile: Bool {
    var info = stat()
    return fstat(number, &info) == 0 && info.st_mode & S_IFMT == S_IFREG
  }

  /// Waits until nobody else holds this file's lock, then holds it until the descriptor closes.
  func lockExclusively(_ name: String) throws(SystemError) {
    while flock(number, LOCK_EX) != 0 {
      guard errno == EINTR else { throw SystemError("lock", name) }
    }
  }

  /// The next bytes, at most `limit`; empty at the end.
  func read(upTo limit: Int) throws(SystemError) -> [UInt8] {
    var failure: SystemError?
    let bytes = [UInt8](unsafeUninitializedCapacity: limit) { buffer, count in
      repeat {
        count = Glibc.read(number, buffer.baseAddress, limit)
      } while count < 0
        && errno == EINTR
      if count < 0 {
        failure = SystemError("read")
        count = 0
      }
    }
    if let failure { throw failure }
    return bytes
  }
}

/// Arrays of bytes and their slices.
protocol ContiguousBytesToWrite {
  func withUnsafeBytes<Result>(
    _ body: (UnsafeRawBufferPointer) throws -> Result
  ) rethrows -> Result
}

extension [UInt8]: ContiguousBytesToWrite {}
extension ArraySlice<UInt8>: ContiguousBytesToWrite {}
