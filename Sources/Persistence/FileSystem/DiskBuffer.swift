import Primitives

/// A growable, page-aligned piece of memory that a batch is encoded into and written from.
///
/// It is owned by one side at a time: its maker fills it, then hands it to a `DiskJob` and doesn't touch
/// it again until that job's result is back. That rule, and nothing in here, makes it safe to send to
/// another thread. Reusing a buffer spares both the allocation and the page faults of a fresh one.
public final class DiskBuffer: @unchecked Sendable {
  /// The first byte, on a page boundary.
  @usableFromInline package private(set) var base: UnsafeMutableRawPointer
  /// The bytes that fit before the buffer must grow.
  package private(set) var capacity: Int

  /// The page size of every machine we run on, and the unit in which disks are written.
  static let alignment = 4096

  package init(capacity: Int) {
    let rounded = Self.rounded(capacity)
    self.capacity = rounded
    base = .allocate(byteCount: rounded, alignment: Self.alignment)
  }

  deinit { base.deallocate() }

  /// Makes room for `count` bytes, keeping the first `used`.
  package func reserve(_ count: Int, keeping used: Int) {
    guard count > capacity else { return }
    let rounded = Self.rounded(max(count, capacity * 2))
    let larger = UnsafeMutableRawPointer.allocate(
      byteCount: rounded, alignment: Self.alignment)
    larger.copyMemory(from: base, byteCount: used)
    base.deallocate()
    base = larger
    capacity = rounded
  }

  private static func rounded(_ count: Int) -> Int {
    (max(count, 1) + alignment - 1) / alignment * alignment
  }
}
