/// A growing buffer of bytes on their way out, with room to write frames in place.
///
/// A class over raw memory and not an array: a frame's header is filled in after its payload, and
/// appending a few bytes must cost a few instructions.
public final class ByteSink {
  private(set) var base: UnsafeMutableRawPointer
  private var capacity: Int
  /// Bytes written so far.
  public private(set) var count = 0

  /// Starts small: a connection may do nothing for its whole life, and there may be thousands of them.
  init(capacity: Int = 256) {
    self.capacity = capacity
    base = .allocate(byteCount: capacity, alignment: 16)
  }

  deinit { base.deallocate() }

  public var isEmpty: Bool { count == 0 }

  /// The bytes written so far, borrowed until the next change.
  public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

  /// Forgets all bytes. Memory beyond 256 KiB is given back, so that one large answer doesn't stay.
  public func removeAll() {
    count = 0
    if capacity > 256 << 10 {
      base.deallocate()
      capacity = 16_384
      base = .allocate(byteCount: capacity, alignment: 16)
    }
  }

  /// Makes room for `extra` bytes and returns where they start. Nothing counts until `advance`.
  @inline(__always)
  func reserve(_ extra: Int) -> UnsafeMutableRawPointer {
    if capacity &- count < extra { grow(by: extra) }
    return base + count
  }

  @inline(__always)
  func advance(_ written: Int) { count &+= written }

  /// Takes back everything after the first `newCount` bytes.
  func truncate(to newCount: Int) { count = min(count, newCount) }

  @inline(never)
  private func grow(by extra: Int) {
    var newCapacity = capacity * 2
    while newCapacity - count < extra { newCapacity *= 2 }
    let new = UnsafeMutableRawPointer.allocate(byteCount: newCapacity, alignment: 16)
    new.copyMemory(from: base, byteCount: count)
    base.deallocate()
    base = new
    capacity = newCapacity
  }

  @inline(__always)
  func append(_ byte: UInt8) {
    reserve(1).storeBytes(of: byte, as: UInt8.self)
    count &+= 1
  }

  @inline(__always)
  func append(_ bytes: UnsafeRawBufferPointer) {
    guard let start = bytes.baseAddress else { return }
    reserve(bytes.count).copyMemory(from: start, byteCount: bytes.count)
    count &+= bytes.count
  }

  func append(_ bytes: [UInt8]) { bytes.withUnsafeBytes { append($0) } }
}
