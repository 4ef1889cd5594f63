#if canImport(Glibc)
  import Glibc
#endif

/// What must be true of the machine before a cluster starts; each failure is one clear sentence.
enum Preflight {
  /// Free space below which a start is refused: three members' prepared log segments and some room.
  static let leastFreeBytes: UInt64 = 1 << 30

  /// Takes the data directory for this process. The lock goes with the process.
  static func lock(_ directory: String) throws {
    if mkdir(directory, 0o755) != 0 && errno != EEXIST {
      throw StartFailure("cannot create \(directory): \(errorText(errno))")
    }
    let path = directory + "/up.lock"
    let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard file >= 0 else { throw StartFailure("cannot open \(path): \(errorText(errno))") }
    if flock(file, LOCK_EX | LOCK_NB) != 0 {
      var bytes = [UInt8](repeating: 0, count: 32)
      let count = max(0, read(file, &bytes, bytes.count))
      let owner = String(decoding: bytes[..<count], as: UTF8.self).filter(\.isNumber)
      throw StartFailure(
        "a cluster is already running in \(directory) (pid \(owner)); stop it first, "
          + "or give this one another --data-dir and other ports")
    }
    ftruncate(file, 0)
    let text = "\(getpid())\n"
    _ = text.withCString { write(file, $0, strlen($0)) }
    // The descriptor stays open: closing it would give the lock up.
  }

  static func checkSpace(_ directory: String) throws {
    var status = statvfs()
    guard statvfs(directory, &status) == 0 else { return }
    let free = UInt64(status.f_bavail) * UInt64(status.f_frsize)
    guard free >= leastFreeBytes else {
      throw StartFailure(
        "the disk of \(directory) is nearly full: \(free >> 20) MiB free, "
          + "\(leastFreeBytes >> 20) MiB needed; free some or give another --data-dir")
    }
  }

  static func checkPort(_ port: Int, flag: String) throws {
    let handle = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard handle >= 0 else { return }
    defer { close(handle) }
    var one: Int32 = 1
    setsockopt(handle, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
    let bound = LoopbackSocket.withAddress(port) { bind(handle, $0, $1) }
    if bound != 0 && errno == EADDRINUSE {
      throw StartFailure("port \(port) is in use; choose another with \(flag)")
    }
  }

  static func checkTool(_ name: String, package: String) throws {
    let path = getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin"
    for folder in path.split(separator: ":") where access("\(folder)/\(name)", X_OK) == 0 { return }
    throw StartFailure(
      "'\(name)' is needed to run containers and is not installed: apt-get install \(package) "
        + "(or start without a node: --no-node)")
  }
}

extension Preflight {
  /// All checks for a cluster of this shape, in the order in which a user would want to hear of them.
  static func check(_ shape: ClusterShape) throws {
    try lock(shape.directory)
    for folder in ["logs", "store"] + shape.nodes.map(\.folder) { mkdir("\(shape.directory)/\(folder)", 0o755) }
    try checkSpace(shape.directory)
    for member in shape.members {
      try checkPort(member.clientPort, flag: "--store-ports")
      try checkPort(member.peerPort, flag: "--store-ports")
    }
    try checkPort(shape.apiPort, flag: "--api-port")
    guard shape.hasNode else { return }
    try checkTool("crun", package: "crun")
    try checkTool("nft", package: "nftables")
    guard geteuid() == 0 else {
      throw StartFailure(
        "a node runs containers and needs root: run as root, or start without a node: --no-node")
    }
  }
}
