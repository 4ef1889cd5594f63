import Glibc
import Primitives
import Synchronization

// The system calls, with what each needs around it: interruption, short writes, errors that tell.

extension LinuxFileSystem {
  // MARK: Open files

  /// The open file at `path`, opened now if it isn't.
  func handle(_ path: String, create: Bool) throws(PersistenceError) -> Handle {
    let known: Handle? = state.withLock { state in
      guard let position = state.open.lastIndex(where: { $0.path == path }) else { return nil }
      if position != state.open.count - 1 { state.open.append(state.open.remove(at: position)) }
      return state.open[state.open.count - 1].handle
    }
    if let known { return known }
    let flags = O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0)
    let descriptor = try check("open", path: path) { open(path, flags, 0o600) }
    let handle = Handle(descriptor: descriptor)
    state.withLock { state in
      // Two threads may have opened it at once; either handle serves.
      state.open.append((path, handle))
      if state.open.count > Limits.openFiles { state.open.removeFirst() }
    }
    return handle
  }

  /// Closes `path` once the operations running on it are through.
  func forget(_ path: String) {
    state.withLock { state in state.open.removeAll { $0.path == path } }
  }

  // MARK: Bytes

  func write(
    _ bytes: UnsafeRawBufferPointer, to handle: Handle, at offset: UInt64, path: String
  ) throws(PersistenceError) {
    var written = 0
    while written < bytes.count {
      guard let base = bytes.baseAddress else { return }
      let position = offset + UInt64(written)
      let count = pwrite(
        handle.descriptor, base + written, bytes.count - written, off_t(clamping: position))
      if count > 0 {
        written += count
      } else if count == 0 {
        throw failure("pwrite (nothing was written)", EIO, path: path, offset: position)
      } else if errno != EINTR {
        throw failure("pwrite", errno, path: path, offset: position)
      }
    }
  }

  func read(_ path: String, at offset: UInt64, upTo count: Int) throws(PersistenceError) -> [UInt8]
  {
    guard count >= 0, count <= Limits.readBytes else {
      throw PersistenceError(
        .invalid, "a read of \(count) bytes was asked for, at most \(Limits.readBytes) are allowed",
        path: path, offset: offset)
    }
    let handle = try handle(path, create: false)
    var status = stat()
    try check("fstat", path: path) { fstat(handle.descriptor, &status) }
    let size = UInt64(clamping: status.st_size)
    // Never more memory than the file has bytes, whatever length was asked for.
    let wanted = offset >= size ? 0 : Int(min(UInt64(count), size - offset))
    var problem: PersistenceError?
    let bytes = [UInt8](unsafeUninitializedCapacity: wanted) { buffer, filled in
      filled = 0
      while filled < wanted, let base = buffer.baseAddress {
        let position = offset + UInt64(filled)
        let got = pread(
          handle.descriptor, base + filled, wanted - filled, off_t(clamping: position))
        if got > 0 {
          filled += got
        } else if got == 0 {
          return
        } else if errno != EINTR {
          problem = failure("pread", errno, path: path, offset: position)
          return
        }
      }
    }
    if let problem { throw problem }
    return bytes
  }

  func allocate(_ path: String, size: UInt64) throws(PersistenceError) {
    let handle = try handle(path, create: true)
    try check("ftruncate", path: path) { ftruncate(handle.descriptor, 0) }
    // Reserve the blocks in one go, so that they lie together and a full disk is met before the work.
    var outcome: Int32
    repeat {
      outcome = posix_fallocate(handle.descriptor, 0, off_t(clamping: size))
    } while outcome == EINTR
    if outcome != 0 { throw failure("fallocate", outcome, path: path, offset: size) }
    // Then write them: a block that was only reserved costs a metadata change at its first sync.
    let zeros = [UInt8](repeating: 0, count: Int(min(size, UInt64(Limits.zeroFillBytes))))
    var offset: UInt64 = 0
    while offset < size {
      let count = Int(min(size - offset, UInt64(zeros.count)))
      let result: Result<Void, PersistenceError> = zeros.withUnsafeBytes { pointer in
        let piece = UnsafeRawBufferPointer(rebasing: pointer[0..<count])
        do throws(PersistenceError) {
          return .success(try write(piece, to: handle, at: offset, path: path))
        } catch {
          return .failure(error)
        }
      }
      try result.get()
      offset += UInt64(count)
      // Little by little: one large sync at the end would make the log's own syncs wait for it.
      if fdatasync(handle.descriptor) != 0 { throw failure("fdatasync", errno, path: path) }
    }
    if fsync(handle.descriptor) != 0 { throw failure("fsync", errno, path: path) }
  }

  // MARK: Directories

  func syncDirectory(_ path: String) throws(PersistenceError) {
    let handle = Handle(
      descriptor: try check("open", path: path) { open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) })
    if fsync(handle.descriptor) != 0 { throw failure("fsync", errno, path: path) }
  }

  func createDirectory(_ path: String) throws(PersistenceError) {
    if mkdir(path, 0o700) == 0 { return try syncParent(of: path) }
    switch errno {
    case EEXIST:
      var status = stat()
      try check("stat", path: path) { stat(path, &status) }
      if status.st_mode & S_IFMT != S_IFDIR { throw failure("mkdir", ENOTDIR, path: path) }
    case ENOENT:
      guard let parent = parent(of: path) else { throw failure("mkdir", ENOENT, path: path) }
      try createDirectory(parent)
      try check("mkdir", path: path) { mkdir(path, 0o700) }
      try syncParent(of: path)
    default:
      throw failure("mkdir", errno, path: path)
    }
  }

  /// Makes a new directory's own name durable.
  private func syncParent(of path: String) throws(PersistenceError) {
    try syncDirectory(parent(of: path) ?? ".")
  }

  private func parent(of path: String) -> String? {
    var trimmed = Substring(path)
    while trimmed.count > 1, trimmed.last == "/" { trimmed.removeLast() }
    guard let slash = trimmed.lastIndex(of: "/") else { return nil }
    return slash == trimmed.startIndex ? "/" : String(trimmed[..<slash])
  }

  func names(in path: String) throws(PersistenceError) -> [String] {
    guard let stream = opendir(path) else { throw failure("opendir", errno, path: path) }
    defer { closedir(stream) }
    var names: [String] = []
    while true {
      errno = 0
      guard let entry = readdir(stream) else {
        if errno != 0 { throw failure("readdir", errno, path: path) }
        return names.sorted()
      }
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(
          to: CChar.self, capacity: MemoryLayout.size(ofValue: pointer.pointee)
        ) { String(cString: $0) }
      }
      if name != "." && name != ".." { names.append(name) }
    }
  }

  func lock(_ path: String) throws(PersistenceError) {
    let file = path + "/LOCK"
    let handle = Handle(
      descriptor: try check("open", path: file) { open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0o600) })
    if flock(handle.descriptor, LOCK_EX | LOCK_NB) != 0 {
      if errno == EWOULDBLOCK {
        throw PersistenceError(
          .locked,
          "another process uses this directory; stop it, or give this member a directory of its own",
          path: path)
      }
      throw failure("flock", errno, path: file)
    }
    state.withLock { state in state.locks[path] = handle }
  }

  // MARK: Errors

  /// Runs `call` until it isn't interrupted, and throws what errno says if it fails.
  @discardableResult
  func check(
    _ name: String, path: String, offset: UInt64? = nil, _ call: () -> Int32
  ) throws(PersistenceError) -> Int32 {
    while true {
      let result = call()
      if result >= 0 { return result }
      if errno != EINTR { throw failure(name, errno, path: path, offset: offset) }
    }
  }

  func failure(
    _ call: String, _ number: Int32, path: String, offset: UInt64? = nil
  ) -> PersistenceError {
    let text = String(cString: strerror(number))
    switch number {
    case ENOSPC, EDQUOT:
      return PersistenceError(
        .diskFull, "\(call): \(text); free or add disk space", path: path, offset: offset)
    case ENOENT:
      return PersistenceError(.missing, "\(call): \(text)", path: path, offset: offset)
    case EACCES, EPERM, EROFS:
      return PersistenceError(
        .io, "\(call): \(text); the member's user must own this path and be able to write it",
        path: path, offset: offset)
    default:
      return PersistenceError(
        .io, "\(call): \(text) (errno \(number)); check the disk and the kernel's log",
        path: path, offset: offset)
    }
  }
}
