#if canImport(Glibc)
  import Glibc
#endif

extension LossyDisk.State {
  /// Answers one request of the kernel's.
  mutating func answer(_ request: FuseRequest) -> FuseAnswer {
    guard let kind = request.kind else { return .failure(ENOSYS) }
    switch kind {
    case .initialize: return .success(Self.greeting)
    case .forget, .forgetMany, .interrupt: return .silence
    case .destroy, .flush, .releaseDirectory: return .success()
    case .fileSystemStatus: return .success(Self.status)
    case .lookup: return lookUp(request.text(0).text, in: request.node)
    case .getAttributes: return attributes(of: request.node)
    case .setAttributes: return setAttributes(request)
    case .makeDirectory:
      return make(request.text(8).text, in: request.node, mode: S_IFDIR | request.word(0) & 0o777)
    case .create:
      return make(request.text(16).text, in: request.node, mode: S_IFREG | request.word(4) & 0o777, opens: true)
    case .unlink, .removeDirectory: return remove(request.text(0).text, in: request.node, kind)
    case .rename: return rename(request, bodyOffset: 8)
    case .rename2: return request.word(8) == 0 ? rename(request, bodyOffset: 16) : .failure(EINVAL)
    case .open:
      guard nodes[request.node] != nil else { return .failure(ENOENT) }
      nodes[request.node]!.opens += 1
      return .success(Self.opened)
    case .openDirectory: return .success(Self.openedDirectory)
    case .release:
      guard nodes[request.node] != nil else { return .success() }
      nodes[request.node]!.opens -= 1
      if nodes[request.node]!.opens <= 0 { removeUnreachable() }
      return .success()
    case .read: return read(request)
    case .write: return write(request)
    case .allocate: return allocate(request)
    case .sync, .syncDirectory: return sync(request.node)
    case .readDirectory: return readDirectory(request)
    }
  }

  // MARK: Directories

  private func lookUp(_ name: String, in directory: UInt64) -> FuseAnswer {
    guard let id = nodes[directory]?.entries?[name], let entry = entry(id) else { return .failure(ENOENT) }
    return .success(entry)
  }

  private mutating func make(
    _ name: String, in directory: UInt64, mode: UInt32, opens: Bool = false
  ) -> FuseAnswer {
    guard nodes[directory]?.entries != nil else { return .failure(ENOTDIR) }
    guard nodes[directory]!.entries![name] == nil else { return .failure(EEXIST) }
    let id = nextNode
    nextNode += 1
    var node = LossyDisk.Node(entries: mode & S_IFMT == S_IFDIR ? [:] : nil, mode: mode)
    node.opens = opens ? 1 : 0
    nodes[id] = node
    nodes[directory]!.entries![name] = id
    guard let entry = entry(id) else { return .failure(EIO) }
    return .success(opens ? entry + Self.opened : entry)
  }

  private mutating func remove(_ name: String, in directory: UInt64, _ kind: FuseRequest.Kind) -> FuseAnswer {
    guard let id = nodes[directory]?.entries?[name] else { return .failure(ENOENT) }
    if kind == .removeDirectory, nodes[id]?.entries?.isEmpty == false { return .failure(ENOTEMPTY) }
    if kind == .unlink, nodes[id]?.entries != nil { return .failure(EISDIR) }
    nodes[directory]!.entries![name] = nil
    removeUnreachable()
    return .success()
  }

  private mutating func rename(_ request: FuseRequest, bodyOffset: Int) -> FuseAnswer {
    let target = request.long(0)
    let (old, end) = request.text(bodyOffset)
    let (new, _) = request.text(end)
    guard let id = nodes[request.node]?.entries?[old], nodes[target]?.entries != nil else {
      return .failure(ENOENT)
    }
    nodes[request.node]!.entries![old] = nil
    nodes[target]!.entries![new] = id
    removeUnreachable()
    return .success()
  }

  private func readDirectory(_ request: FuseRequest) -> FuseAnswer {
    guard let node = nodes[request.node], let entries = node.entries else { return .failure(ENOTDIR) }
    // A place in the listing is a node's number, which stays where it is when others are removed meanwhile.
    var all = [(name: ".", id: request.node, place: UInt64(1)), (name: "..", id: 1, place: 2)]
    all += entries.sorted { $0.value < $1.value }.map { ($0.key, $0.value, $0.value + 2) }
    let size = Int(request.word(16))
    var listing: [UInt8] = []
    for (name, id, place) in all where place > request.long(8) {
      let length = 24 + name.utf8.count
      let padded = (length + 7) / 8 * 8
      guard listing.count + padded <= size else { break }
      listing.append(native: id)
      listing.append(native: place)
      listing.append(native: UInt32(name.utf8.count))
      listing.append(native: (nodes[id]?.mode ?? S_IFREG) >> 12)
      listing += name.utf8
      listing += [UInt8](repeating: 0, count: padded - length)
    }
    return .success(listing)
  }

  // MARK: Files

  private func read(_ request: FuseRequest) -> FuseAnswer {
    guard let node = nodes[request.node], node.entries == nil else { return .failure(EBADF) }
    let start = min(Int(clamping: request.long(8)), node.content.count)
    return .success(Array(node.content[start..<min(start + Int(request.word(16)), node.content.count)]))
  }

  private mutating func write(_ request: FuseRequest) -> FuseAnswer {
    let size = Int(request.word(16))
    guard nodes[request.node]?.entries == nil, nodes[request.node] != nil, request.body.count >= 40 + size else {
      return .failure(EBADF)
    }
    nodes[request.node]!.write(
      UnsafeRawBufferPointer(rebasing: request.body[40..<(40 + size)]), at: Int(clamping: request.long(8)))
    clock_gettime(CLOCK_REALTIME, &nodes[request.node]!.changed)
    var answer: [UInt8] = []
    answer.append(native: UInt32(size))
    answer.append(native: UInt32(0))
    return .success(answer)
  }

  private mutating func allocate(_ request: FuseRequest) -> FuseAnswer {
    guard nodes[request.node] != nil, nodes[request.node]!.entries == nil else { return .failure(EBADF) }
    // Only plain allocation, and that which keeps the size.
    switch request.word(24) {
    case 0:
      let end = Int(clamping: request.long(8)) + Int(clamping: request.long(16))
      if end > nodes[request.node]!.content.count { nodes[request.node]!.resize(end) }
      return .success()
    case 1: return .success()
    default: return .failure(EOPNOTSUPP)
    }
  }

  private mutating func sync(_ id: UInt64) -> FuseAnswer {
    guard nodes[id] != nil else { return .failure(EBADF) }
    syncs += 1
    if failsSyncs {
      // What the kernel does: the pages count as clean from now on, and are not on the disk.
      _ = nodes[id]!.forget { true }
      return .failure(EIO)
    }
    nodes[id]!.sync()
    if nodes[id]!.entries != nil { removeUnreachable() }
    return .success()
  }

  private mutating func setAttributes(_ request: FuseRequest) -> FuseAnswer {
    guard nodes[request.node] != nil else { return .failure(ENOENT) }
    let valid = request.word(0)
    if valid & 1 != 0 {
      nodes[request.node]!.mode = nodes[request.node]!.mode & S_IFMT | request.word(68) & 0o7777
    }
    if valid & 8 != 0 { nodes[request.node]!.resize(Int(clamping: request.long(16))) }
    return attributes(of: request.node)
  }

  // MARK: What structures look like

  private func attributes(of id: UInt64) -> FuseAnswer {
    guard let attributes = rawAttributes(of: id) else { return .failure(ENOENT) }
    // Good for no time at all: the kernel asks again.
    return .success([UInt8](repeating: 0, count: 16) + attributes)
  }

  private func entry(_ id: UInt64) -> [UInt8]? {
    guard let attributes = rawAttributes(of: id) else { return nil }
    var entry: [UInt8] = []
    entry.append(native: id)
    return entry + [UInt8](repeating: 0, count: 32) + attributes
  }

  private func rawAttributes(of id: UInt64) -> [UInt8]? {
    guard let node = nodes[id] else { return nil }
    var bytes: [UInt8] = []
    let seconds = UInt64(clamping: node.changed.tv_sec)
    for number in [id, UInt64(node.content.count), UInt64(node.content.count + 511) / 512, seconds, seconds, seconds] {
      bytes.append(native: number)
    }
    // One link, of a directory too: as with btrfs, that says nothing of how many directories are in it.
    for number in [0, 0, 0, node.mode, 1, 0, 0, 0, UInt32(LossyDisk.pageSize), 0] as [UInt32] {
      bytes.append(native: number)
    }
    return bytes
  }

  private static let opened: [UInt8] = {
    // No handle of our own, and nothing of the file in the kernel's cache: it would outlive a loss of power.
    var bytes: [UInt8] = []
    bytes.append(native: UInt64(0))
    bytes.append(native: UInt32(1))
    bytes.append(native: UInt32(0))
    return bytes
  }()

  private static let openedDirectory = [UInt8](repeating: 0, count: 16)

  private static let greeting: [UInt8] = {
    var bytes: [UInt8] = []
    // Version 7.31; big writes, and requests of as many pages as a write may have.
    for number in [7, 31, 65_536, 1 << 5 | 1 << 22] as [UInt32] { bytes.append(native: number) }
    for number in [16, 12] as [UInt16] { bytes.append(native: number) }
    for number in [UInt32(FuseService.largestWrite), 1] { bytes.append(native: number) }
    for number in [UInt16(FuseService.largestWrite / LossyDisk.pageSize), 0] { bytes.append(native: number) }
    return bytes + [UInt8](repeating: 0, count: 32)
  }()

  private static let status: [UInt8] = {
    var bytes: [UInt8] = []
    for number in [1 << 22, 1 << 21, 1 << 21, 1 << 20, 1 << 20] as [UInt64] { bytes.append(native: number) }
    for number in [UInt32(LossyDisk.pageSize), 255, UInt32(LossyDisk.pageSize), 0] { bytes.append(native: number) }
    return bytes + [UInt8](repeating: 0, count: 24)
  }()
}
