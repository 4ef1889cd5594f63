import Foundation
import Primitives
import Synchronization

#if canImport(Glibc)
  import Glibc
#endif

/// A disk that forgets what wasn't synced, fails, or hesitates: a file system in this process, which the kernel asks
/// through FUSE.
///
/// `kill -9` alone proves little about syncing, since the kernel's cache survives the process. Here a file keeps,
/// for every page written since its last `fsync`, what the page held before; `losePower` brings back the old content
/// of any of them, as a disk with a cache of its own does, and directories go back to their entries at their last
/// `fsync` or don't. Content lives in memory: the disk is as durable as the run.
///
/// Source of the protocol: `linux/fuse.h`, version 7.31.
final class LossyDisk: Sendable {
  struct Node {
    /// Nil for a file.
    var entries: [String: UInt64]?
    var content: [UInt8] = []
    var mode: UInt32
    var opens = 0
    var changed = timespec()
    // What power loss brings back.
    var syncedEntries: [String: UInt64] = [:]
    /// The size at the last sync, and the old content of each page that was written since.
    var syncedSize = 0
    var oldPages: [Int: [UInt8]] = [:]
  }

  struct State {
    var nodes: [UInt64: Node] = [1: Node(entries: [:], mode: S_IFDIR | 0o755)]
    var nextNode: UInt64 = 2
    /// How long each sync takes.
    var syncDelay = Duration.zero
    /// Syncs fail with EIO, and what they were to write is gone, as with Linux.
    var failsSyncs = false
    var syncs = 0
  }

  static let pageSize = 4_096
  /// Why there can be none here, nil if there can.
  static let obstacle: String? =
    access("/dev/fuse", R_OK | W_OK) == 0 ? nil : "there is no /dev/fuse here"

  let path: String
  private let state = Mutex(State())
  private let handle: Int32

  /// Mounts an empty disk. It goes with this process.
  init(at path: String) throws {
    self.path = path
    try Tool.run("mkdir", ["-p", path])
    handle = open("/dev/fuse", O_RDWR | O_CLOEXEC)
    guard handle >= 0 else { throw FaultRunFailure("/dev/fuse: \(String(cString: strerror(errno)))") }
    let options = "fd=\(handle),rootmode=40000,user_id=0,group_id=0,allow_other"
    guard mount("lossy", path, "fuse", UInt(MS_NOSUID | MS_NODEV), options) == 0 else {
      throw FaultRunFailure("mounting a FUSE at \(path): \(String(cString: strerror(errno)))")
    }
    let service = FuseService(handle: handle)
    Thread.detachNewThread { [self] in
      service.serve { request in
        // A sync that takes its time holds up the whole disk, as it does in truth.
        let delay = state.withLock { request.isSync ? $0.syncDelay : .zero }
        if delay > .zero { usleep(UInt32(delay.wholeNanoseconds / 1_000)) }
        return state.withLock { $0.answer(request) }
      }
    }
  }

  // MARK: Faults

  func delaySyncs(_ delay: Duration) { state.withLock { $0.syncDelay = delay } }
  func failSyncs(_ fails: Bool) { state.withLock { $0.failsSyncs = fails } }
  var syncs: Int { state.withLock { $0.syncs } }

  /// Forgets some of what wasn't synced. Nobody may have files open.
  ///
  /// - Returns: how many pages and directories went back.
  func losePower(_ random: inout RandomSource) -> (pages: Int, directories: Int) {
    var own = random.split()
    return state.withLock { $0.losePower(&own) }
  }
}

extension LossyDisk.State {
  mutating func losePower(_ random: inout RandomSource) -> (pages: Int, directories: Int) {
    var lost = (pages: 0, directories: 0)
    for id in nodes.keys.sorted() {
      nodes[id]!.opens = 0
      if nodes[id]!.entries != nil {
        if nodes[id]!.entries! != nodes[id]!.syncedEntries, random.oneIn(2) {
          nodes[id]!.entries = nodes[id]!.syncedEntries
          lost.directories += 1
        }
        nodes[id]!.syncedEntries = nodes[id]!.entries!
      } else {
        // All, none, or any of its pages.
        let luck = random.below(4)
        lost.pages += nodes[id]!.forget { luck == 0 || (luck > 1 && random.oneIn(2)) }
      }
    }
    removeUnreachable()
    return lost
  }

  /// Frees what no directory names, neither now nor at its last sync, and nobody has open.
  mutating func removeUnreachable() {
    var reached: Set<UInt64> = []
    var waiting: [UInt64] = [1]
    while let id = waiting.popLast() {
      guard reached.insert(id).inserted, let node = nodes[id] else { continue }
      if let entries = node.entries {
        waiting += entries.values
        waiting += node.syncedEntries.values
      }
    }
    for (id, node) in nodes where !reached.contains(id) && node.opens == 0 { nodes[id] = nil }
  }
}

extension LossyDisk.Node {
  /// Keeps the old content of what is about to be written.
  mutating func remember(_ range: Range<Int>) {
    let size = LossyDisk.pageSize
    var page = range.lowerBound / size
    while page * size < range.upperBound {
      if oldPages[page] == nil {
        let start = min(page * size, content.count)
        oldPages[page] = Array(content[start..<min(start + size, content.count)])
      }
      page += 1
    }
  }

  mutating func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
    let end = offset + bytes.count
    remember(offset..<end)
    if content.count < end { content += [UInt8](repeating: 0, count: end - content.count) }
    content.withUnsafeMutableBytes { target in
      UnsafeMutableRawBufferPointer(rebasing: target[offset..<end]).copyMemory(from: bytes)
    }
  }

  mutating func resize(_ size: Int) {
    if size < content.count {
      remember(size..<content.count)
      content.removeLast(content.count - size)
    } else {
      content += [UInt8](repeating: 0, count: size - content.count)
    }
  }

  mutating func sync() {
    oldPages = [:]
    syncedSize = content.count
    if let entries { syncedEntries = entries }
  }

  /// Brings back the pages that `isLost` names, and counts them. A size that wasn't synced may be either.
  mutating func forget(_ isLost: () -> Bool) -> Int {
    let size = content.count != syncedSize && isLost() ? syncedSize : content.count
    var count = 0
    for (page, old) in oldPages.sorted(by: { $0.key < $1.key }) where isLost() {
      let start = page * LossyDisk.pageSize
      let end = start + LossyDisk.pageSize
      if content.count < end { content += [UInt8](repeating: 0, count: end - content.count) }
      content.replaceSubrange(start..<end, with: old + [UInt8](repeating: 0, count: end - start - old.count))
      count += 1
    }
    if content.count > size {
      content.removeLast(content.count - size)
    } else {
      content += [UInt8](repeating: 0, count: size - content.count)
    }
    oldPages = [:]
    syncedSize = size
    return count
  }
}
