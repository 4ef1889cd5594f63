/// The disk, as everything above it sees it: a few operations on whole paths, described as data.
///
/// The write-ahead log and the snapshots decide *what* must happen on disk and say so in values
/// (`FileOperation`, gathered in a `DiskJob`); a file system only carries them out. The cores stay free
/// of blocking calls, the shell chooses the thread, and the simulator puts in a disk that loses what
/// was never synced.
///
/// Operations on different files may run at the same time on different threads. Whoever submits two
/// operations on one file orders them.
public protocol FileSystem: Sendable {
  /// Carries out `operation` and returns when it is done.
  ///
  /// - Throws: `diskFull`, `locked`, `missing` or `io`, naming the path, the offset and the cause.
  func perform(_ operation: FileOperation) throws(PersistenceError) -> FileAnswer
}

/// One thing to do on disk.
public enum FileOperation: Sendable {
  /// Writes all of `bytes` at `offset` of a file, which is created if it is missing.
  /// Durable only after a `syncData`, and for a new file a `syncDirectory` too.
  case write(path: String, offset: UInt64, bytes: DiskBytes)
  /// Reads up to `count` bytes at `offset`; fewer only at the end of the file. Answer: `bytes`.
  case read(path: String, offset: UInt64, count: Int)
  /// Makes a file `size` bytes long with every block allocated and holding zeros, and syncs it.
  /// A file that exists is emptied first.
  case allocate(path: String, size: UInt64)
  /// Cuts or extends a file to `size` bytes.
  case truncate(path: String, size: UInt64)
  /// Waits until a file's bytes are durable (fdatasync). Once it has failed, the state of the file's
  /// unsynced bytes is unknown, and asking again proves nothing.
  case syncData(path: String)
  /// Waits until the names in a directory are durable.
  case syncDirectory(path: String)
  /// Renames a file in place of whatever `to` named, atomically.
  case rename(from: String, to: String)
  /// Removes a file; a missing one is no error.
  case remove(path: String)
  /// Creates a directory and those above it; an existing one is no error.
  case createDirectory(path: String)
  /// The names in a directory, sorted. Answer: `names`.
  case list(directory: String)
  /// A file's size in bytes. Answer: `size`, nil if there is no such file.
  case size(path: String)
  /// The bytes that can still be allocated, and the size of the file system. Answer: `space`.
  case space(path: String)
  /// Takes the directory for this process until `unlockDirectory` or its end; `locked` if another has it.
  case lockDirectory(path: String)
  case unlockDirectory(path: String)
}

/// What an operation found out.
public enum FileAnswer: Sendable {
  case done
  case bytes([UInt8])
  case names([String])
  case size(UInt64?)
  case space(available: UInt64, total: UInt64)
}

/// Bytes on their way to disk: part of a reusable buffer, or an array.
public enum DiskBytes: Sendable {
  case buffer(DiskBuffer, start: Int, count: Int)
  case array([UInt8])

  public var count: Int {
    switch self {
    case .buffer(_, _, let count): count
    case .array(let bytes): bytes.count
    }
  }

  public func withUnsafeBytes<Value, Failure: Error>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Value
  ) throws(Failure) -> Value {
    switch self {
    case .buffer(let buffer, let start, let count):
      return try body(UnsafeRawBufferPointer(start: buffer.base + start, count: count))
    case .array(let bytes):
      // The standard library's own typed-throws form, spelled out for the compiler.
      let result: Result<Value, Failure> = bytes.withUnsafeBytes { pointer in
        do throws(Failure) { return .success(try body(pointer)) } catch { return .failure(error) }
      }
      return try result.get()
    }
  }
}

extension FileSystem {
  /// Reads up to `count` bytes at `offset`; fewer only at the end of the file.
  public func read(
    _ path: String, at offset: UInt64, count: Int
  ) throws(PersistenceError) -> [UInt8] {
    guard case .bytes(let bytes) = try perform(.read(path: path, offset: offset, count: count))
    else { return [] }
    return bytes
  }

  /// The names in a directory, sorted.
  public func list(_ directory: String) throws(PersistenceError) -> [String] {
    guard case .names(let names) = try perform(.list(directory: directory)) else { return [] }
    return names
  }

  /// A file's size in bytes, nil if there is no such file.
  public func size(_ path: String) throws(PersistenceError) -> UInt64? {
    guard case .size(let size) = try perform(.size(path: path)) else { return nil }
    return size
  }

  /// Carries out `operations` in order, up to the first that fails.
  public func perform(_ operations: [FileOperation]) throws(PersistenceError) {
    for operation in operations { _ = try perform(operation) }
  }
}
