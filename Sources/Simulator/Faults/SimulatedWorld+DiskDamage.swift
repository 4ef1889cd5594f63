import Persistence
import Primitives
import Raft
import Replica
import SimulatedStorage

// Damage to what was written and synced, on a member that stands still. What the store promises:
//
// - The newest of two snapshots: the member starts from the one before; and if it was running, it notices that the
//   others can't use what it sends, and writes it again.
// - The log, but for its last batch: the member refuses to start, or the damage is where nobody reads; it never
//   starts with less than it promised. (Damage to the last batch can't be told from a torn write.)
// - All snapshots, or the whole disk: the member is replaced.
//
// All but the first may cost the member, so it happens only where the others can do without it.

extension SimulatedWorld {
  /// The paths of a member's snapshots, the oldest first.
  private func snapshots(of position: Int) -> [String] {
    members[position].disk.paths.filter { $0.hasPrefix("/data/snap/") && $0.hasSuffix(".snapshot") }
  }

  private func segments(of position: Int) -> [String] {
    members[position].disk.paths.filter { $0.hasPrefix("/data/wal/") }
  }

  /// The newest of two snapshots rots, under a running member too.
  mutating func rotNewestSnapshot(_ position: Int) {
    if random.oneIn(2) { crash(position) }
    let snapshots = snapshots(of: position)
    guard snapshots.count >= 2, let newest = snapshots.last,
      !members[position].rotten.contains(snapshots[snapshots.count - 2])
    else { return }
    report.diskFaults += 1
    members[position].rotten.insert(newest)
    rot(newest, of: position)
  }

  /// All snapshots rot.
  mutating func rotAllSnapshots(_ position: Int) {
    guard losableVoters > 0 else { return }
    crash(position)
    report.diskFaults += 1
    members[position].isDamaged = true
    for path in snapshots(of: position) { rot(path, of: position) }
  }

  private mutating func rot(_ path: String, of position: Int) {
    let disk = members[position].disk
    guard let size = disk.contents(of: path)?.count, size > 0 else { return }
    trace("\(name(position))'s \(path) rots")
    for _ in 0...random.below(3) {
      disk.flipBit(path, at: Int(random.below(UInt64(size))), bit: UInt8(random.below(8)))
    }
  }

  /// Bits of the log flip, or sectors of it lie in a wrong place.
  mutating func damageLog(_ position: Int, isMisdirected: Bool) throws {
    guard losableVoters > 0 else { return }
    crash(position)
    let disk = members[position].disk
    let before = try durableLog(of: position)
    let files = segments(of: position)
    guard let last = before.lastBatch, !files.isEmpty else { return }
    report.diskFaults += 1
    members[position].isDamaged = true
    let sector = SimulatedDisk.sectorBytes
    for _ in 0...random.below(3) {
      let path = files[Int(random.below(UInt64(files.count)))]
      guard var bytes = disk.contents(of: path), bytes.count >= sector else { continue }
      // Most of a segment may not have been written yet; damage there is nobody's concern.
      let end = path == last.path ? Int(last.offset) : bytes.count
      guard end > 0 else { continue }
      if isMisdirected {
        guard end >= sector else { continue }
        let target = Int(random.below(UInt64(end / sector))) * sector
        let other = files[Int(random.below(UInt64(files.count)))]
        guard let source = disk.contents(of: other), source.count >= sector else { continue }
        let from = Int(random.below(UInt64(source.count / sector))) * sector
        trace("\(name(position))'s \(path) gets at \(target) what belongs to \(other) at \(from)")
        bytes.replaceSubrange(target..<(target + sector), with: source[from..<(from + sector)])
        disk.overwrite(path, with: bytes)
      } else {
        let place = Int(random.below(UInt64(end)))
        trace("\(name(position))'s \(path) rots at \(place)")
        disk.flipBit(path, at: place, bit: UInt8(random.below(8)))
      }
    }
    // Either the damage is noticed, or it changes nothing.
    guard let after = try? recoverLog(of: position) else { return }
    guard after.lastIndex == before.lastIndex, after.lastTerm == before.lastTerm,
      after.hardState == before.hardState, after.entries == before.entries
    else {
      throw Violation(
        "member \(members[position].id)'s log was damaged before its last batch, and this goes unnoticed: it ends at "
          + "\(after.lastIndex) instead of \(before.lastIndex)", now)
    }
  }

  /// One disk is lost, or as many at once as the members can do without.
  mutating func loseDisks(_ victim: Int) {
    let most = losableVoters
    guard most > 0 else { return }
    lose(victim, because: "its disk is gone")
    let others = present.filter { members[$0].running != nil }
    if most > 1, random.oneIn(2), let other = others.first { lose(other, because: "its disk is gone") }
  }
}
