import Persistence
import Primitives

extension SimulatedDisk.State {
  mutating func perform(_ operation: FileOperation) throws(PersistenceError) -> FileAnswer {
    operations += 1
    if let left = operationsLeft {
      if left <= 1 {
        // The operation that the failure hits happens in part, like any other that isn't synced.
        if left == 1, case .write(let path, let offset, let bytes) = operation {
          write(Self.copy(bytes), to: create(path), at: Int(clamping: offset))
        }
        operationsLeft = 0
        throw PersistenceError(.io, "the power failed")
      }
      operationsLeft = left - 1
    }
    if let error = fault?(operation) {
      fail(operation)
      throw error
    }
    switch operation {
    case .write(let path, let offset, let bytes):
      try require(parentOf: path)
      let content = Self.copy(bytes)
      guard let start = Int(exactly: offset) else {
        throw PersistenceError(.io, "an offset out of range", path: path, offset: offset)
      }
      let size = names[path].flatMap { files[$0]?.visible.count } ?? 0
      try require(space: max(0, start + content.count - size), path)
      write(content, to: create(path), at: start)
    case .read(let path, let offset, let count):
      let bytes = try file(path).1.visible
      let start = min(bytes.count, Int(clamping: offset))
      return .bytes([UInt8](bytes[start..<min(bytes.count, start + max(0, count))]))
    case .allocate(let path, let size):
      try require(parentOf: path)
      let id = create(path)
      resize(id, to: 0)
      try require(space: Int(clamping: size), path)
      write([UInt8](repeating: 0, count: Int(clamping: size)), to: id, at: 0)
      sync(id)
    case .truncate(let path, let size):
      try require(parentOf: path)
      resize(create(path), to: Int(clamping: size))
    case .syncData(let path):
      syncs += 1
      sync(try file(path).0)
    case .syncDirectory(let path):
      try require(directory: path)
      syncs += 1
      for change in pendingNames.removeValue(forKey: path) ?? [] {
        Self.apply(change, to: &durableNames)
      }
    case .rename(let from, let to):
      let id = try file(from).0
      change(.rename(from: from, to: to, file: id), in: Self.parent(of: to))
    case .remove(let path):
      if names[path] != nil { change(.remove(path: path), in: Self.parent(of: path)) }
    case .createDirectory(let path):
      // Made durable at once: nothing depends on losing one.
      var prefix = path
      while !prefix.isEmpty {
        directories.insert(prefix)
        prefix = Self.parent(of: prefix)
      }
    case .list(let directory):
      try require(directory: directory)
      return .names(
        names.keys.filter { Self.parent(of: $0) == directory }
          .map { String($0.dropFirst(directory.count + 1)) }.sorted())
    case .size(let path):
      return .size(names[path].flatMap { files[$0].map { UInt64($0.visible.count) } })
    case .space:
      return .space(available: capacity - min(capacity, used), total: capacity)
    case .lockDirectory(let path):
      try require(directory: path)
      guard locks.insert(path).inserted else {
        throw PersistenceError(.locked, "another process uses this directory", path: path)
      }
    case .unlockDirectory(let path):
      locks.remove(path)
    }
    return .done
  }

  // MARK: Names

  static func parent(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "" }
    return String(path[..<slash])
  }

  static func copy(_ bytes: DiskBytes) -> [UInt8] { bytes.withUnsafeBytes { [UInt8]($0) } }

  private func file(_ path: String) throws(PersistenceError) -> (Int, SimulatedDisk.File) {
    guard let id = names[path], let file = files[id] else {
      throw PersistenceError(.missing, "no such file", path: path)
    }
    return (id, file)
  }

  private func require(directory path: String) throws(PersistenceError) {
    if !directories.contains(path) {
      throw PersistenceError(.missing, "no such directory", path: path)
    }
  }

  private func require(parentOf path: String) throws(PersistenceError) {
    try require(directory: Self.parent(of: path))
  }

  private mutating func create(_ path: String) -> Int {
    if let id = names[path] { return id }
    nextFile += 1
    files[nextFile] = SimulatedDisk.File()
    change(.set(path: path, file: nextFile), in: Self.parent(of: path))
    return nextFile
  }

  private mutating func change(_ change: SimulatedDisk.NameChange, in directory: String) {
    Self.apply(change, to: &names)
    pendingNames[directory, default: []].append(change)
  }

  static func apply(_ change: SimulatedDisk.NameChange, to names: inout [String: Int]) {
    switch change {
    case .set(let path, let file): names[path] = file
    case .remove(let path): names[path] = nil
    case .rename(let from, let to, let file):
      names[from] = nil
      names[to] = file
    }
  }

  // MARK: Bytes

  var used: UInt64 {
    var sum: UInt64 = 0
    for (_, id) in names { sum += UInt64(files[id]?.visible.count ?? 0) }
    return sum
  }

  private func require(space bytes: Int, _ path: String) throws(PersistenceError) {
    if bytes > 0, capacity != .max, used + UInt64(bytes) > capacity {
      throw PersistenceError(.diskFull, "No space left on device", path: path)
    }
  }

  private mutating func write(_ bytes: [UInt8], to id: Int, at offset: Int) {
    files[id]?.pending.append(.write(offset: offset, bytes: bytes))
    Self.apply(bytes[...], at: offset, to: &files[id]!.visible)
  }

  private mutating func resize(_ id: Int, to size: Int) {
    files[id]?.pending.append(.resize(size))
    Self.resize(&files[id]!.visible, to: size)
  }

  static func apply(_ piece: ArraySlice<UInt8>, at offset: Int, to bytes: inout [UInt8]) {
    if bytes.count < offset + piece.count { resize(&bytes, to: offset + piece.count) }
    bytes.replaceSubrange(offset..<(offset + piece.count), with: piece)
  }

  static func resize(_ bytes: inout [UInt8], to size: Int) {
    if size < bytes.count {
      bytes.removeSubrange(size...)
    } else {
      bytes.append(contentsOf: repeatElement(0, count: size - bytes.count))
    }
  }

  private mutating func sync(_ id: Int) {
    settle(id, keeping: 1, of: 1)
  }

  /// Brings pending changes to the platters, each sector with a chance of `numerator / denominator`.
  private mutating func settle(_ id: Int, keeping numerator: UInt64, of denominator: UInt64) {
    guard let changes = files[id]?.pending, !changes.isEmpty else { return }
    files[id]!.pending = []
    let sector = SimulatedDisk.sectorBytes
    for change in changes {
      switch change {
      case .resize(let size):
        if random.below(denominator) < numerator { Self.resize(&files[id]!.durable, to: size) }
      case .write(let offset, let bytes):
        if numerator >= denominator {
          Self.apply(bytes[...], at: offset, to: &files[id]!.durable)
          continue
        }
        var start = 0
        while start < bytes.count {
          // Up to the next sector's border in the file.
          let end = min(bytes.count, start + sector - (offset + start) % sector)
          if random.below(denominator) < numerator {
            Self.apply(bytes[start..<end], at: offset + start, to: &files[id]!.durable)
          }
          start = end
        }
      }
    }
  }

  /// What a failed operation leaves behind.
  private mutating func fail(_ operation: FileOperation) {
    switch operation {
    case .write(let path, let offset, let bytes):
      guard let id = names[path] else { return }
      let content = Self.copy(bytes)
      let kept = Int(random.below(UInt64(content.count) + 1))
      write([UInt8](content[..<kept]), to: id, at: Int(clamping: offset))
    case .syncData(let path):
      // The kernel marks the pages clean: they stay visible, and no later sync writes them.
      if let id = names[path] { settle(id, keeping: 1, of: 2) }
    default:
      break
    }
  }

  // MARK: Crash

  mutating func crash() {
    // One chance for all of a crash, so that "all", "nothing" and "half" all happen often.
    let chance = [0, 1, 4, 7, 8][Int(random.below(5))] as UInt64
    for id in files.keys.sorted() {
      settle(id, keeping: chance, of: 8)
      if let durable = files[id]?.durable { files[id]?.visible = durable }
    }
    for directory in pendingNames.keys.sorted() {
      let changes = pendingNames[directory] ?? []
      let kept = Int(random.below(UInt64(changes.count) + 1))
      for change in changes[..<kept] { Self.apply(change, to: &durableNames) }
    }
    pendingNames = [:]
    names = durableNames
    let living = Set(names.values)
    for id in files.keys.sorted() where !living.contains(id) { files[id] = nil }
    locks = []
    operationsLeft = nil
  }
}
