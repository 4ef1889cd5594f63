import EtcdWire
import Primitives

/// A node of a `Tree`, by its address. See `Tree` for how nodes make a tree, `Arena` for their
/// lives.
///
/// A node is one allocation. Leaves end before `children`.
///
/// ```
///     0  u64       epoch that made the node
///     8  i64       elements at and below it
///    16  i32       entries in it
///    20  u16       height; 0 for a leaf
///    22  u16       length of `prefix`
///    24  64 bytes  prefix: bytes that all keys at and below the node begin with
///    88  64 x u64  heads: the eight bytes of each key that follow the prefix, or a whole word
///   600  64 x ptr  slots: the entries' elements; of an inner node the first element below each child
///  1112  64 x ptr  children
///  1624  64 x u32  elements at and below each child
/// ```
///
/// *Heads* keep a search inside the node. Keys of a store share long beginnings, and without heads
/// each step of a binary search would touch another record, a cache miss of some 80 ns. A head is
/// eight bytes behind the shared prefix, as a big-endian number and filled up with zeros, so that
/// of two keys with different heads the one with the smaller head is smaller. Records are looked at
/// only where heads are equal. A prefix may be shorter than it could be: it is cut when a key
/// arrives that doesn't share it and found anew when the node is split or merged.
struct Node: Equatable {
  let address: UnsafeMutableRawPointer

  static let capacity = 64
  /// Below this many entries a node is merged with a neighbour or takes entries from it.
  static let minimum = 16
  /// Neighbours are merged up to this size, so that the next insertion doesn't split them again.
  static let mergedMaximum = 48
  static let maximumPrefix = 64

  private static let headsOffset = 24 + maximumPrefix
  private static let slotsOffset = headsOffset + capacity * 8
  private static let childrenOffset = slotsOffset + capacity * 8
  private static let totalsOffset = childrenOffset + capacity * 8
  static let leafSize = childrenOffset
  static let innerSize = totalsOffset + capacity * 4

  @inline(__always) init(address: UnsafeMutableRawPointer) { self.address = address }

  @inline(__always) var epoch: UInt64 {
    get { address.load(as: UInt64.self) }
    nonmutating set { address.storeBytes(of: newValue, as: UInt64.self) }
  }
  @inline(__always) var total: Int {
    get { address.load(fromByteOffset: 8, as: Int.self) }
    nonmutating set { address.storeBytes(of: newValue, toByteOffset: 8, as: Int.self) }
  }
  @inline(__always) var count: Int {
    get { Int(address.load(fromByteOffset: 16, as: Int32.self)) }
    nonmutating set {
      address.storeBytes(
        of: Int32(truncatingIfNeeded: newValue), toByteOffset: 16, as: Int32.self)
    }
  }
  @inline(__always) var height: Int {
    get { Int(address.load(fromByteOffset: 20, as: UInt16.self)) }
    nonmutating set {
      address.storeBytes(
        of: UInt16(truncatingIfNeeded: newValue), toByteOffset: 20, as: UInt16.self)
    }
  }
  @inline(__always) var prefixLength: Int {
    get { Int(address.load(fromByteOffset: 22, as: UInt16.self)) }
    nonmutating set {
      address.storeBytes(
        of: UInt16(truncatingIfNeeded: newValue), toByteOffset: 22, as: UInt16.self)
    }
  }
  @inline(__always) var isLeaf: Bool { height == 0 }

  @inline(__always) var prefix: UnsafeMutableRawPointer { address + 24 }
  @inline(__always) var heads: UnsafeMutablePointer<UInt64> {
    (address + Node.headsOffset).assumingMemoryBound(to: UInt64.self)
  }
  @inline(__always) var slots: UnsafeMutablePointer<UnsafeMutableRawPointer> {
    (address + Node.slotsOffset).assumingMemoryBound(to: UnsafeMutableRawPointer.self)
  }
  /// Inner nodes only.
  @inline(__always) var children: UnsafeMutablePointer<Node> {
    (address + Node.childrenOffset).assumingMemoryBound(to: Node.self)
  }
  /// Inner nodes only: the elements at and below each child, so that counting needs no look at
  /// them.
  @inline(__always) var totals: UnsafeMutablePointer<UInt32> {
    (address + Node.totalsOffset).assumingMemoryBound(to: UInt32.self)
  }

  /// Gives raw memory of the right size its types and an empty node's header.
  static func initialize(_ address: UnsafeMutableRawPointer, height: Int, epoch: UInt64) -> Node {
    (address + headsOffset).bindMemory(to: UInt64.self, capacity: capacity)
    (address + slotsOffset).bindMemory(to: UnsafeMutableRawPointer.self, capacity: capacity)
    if height > 0 {
      (address + childrenOffset).bindMemory(to: Node.self, capacity: capacity)
      (address + totalsOffset).bindMemory(to: UInt32.self, capacity: capacity)
    }
    let node = Node(address: address)
    node.epoch = epoch
    node.total = 0
    node.count = 0
    node.height = height
    node.prefixLength = 0
    return node
  }

  /// Copies all but the epoch from a node of the same height.
  func copyContents(of other: Node) {
    let count = other.count
    total = other.total
    // Entries, height, prefix length and prefix.
    (address + 16).copyMemory(from: other.address + 16, byteCount: 8 &+ other.prefixLength)
    heads.update(from: other.heads, count: count)
    slots.update(from: other.slots, count: count)
    if height > 0 {
      children.update(from: other.children, count: count)
      totals.update(from: other.totals, count: count)
    }
  }
}

// MARK: Entries

extension Node {
  /// Makes room for an entry at `index`. Its fields are the caller's to fill.
  @inline(__always)
  func openGap(at index: Int) {
    let count = self.count
    let moved = count &- index
    if moved > 0 {
      (heads + (index &+ 1)).update(from: heads + index, count: moved)
      (slots + (index &+ 1)).update(from: slots + index, count: moved)
      if height > 0 {
        (children + (index &+ 1)).update(from: children + index, count: moved)
        (totals + (index &+ 1)).update(from: totals + index, count: moved)
      }
    }
    self.count = count &+ 1
  }

  /// Takes the entry at `index` out.
  func closeGap(at index: Int) {
    let count = self.count
    let moved = count &- index &- 1
    if moved > 0 {
      (heads + index).update(from: heads + (index &+ 1), count: moved)
      (slots + index).update(from: slots + (index &+ 1), count: moved)
      if height > 0 {
        (children + index).update(from: children + (index &+ 1), count: moved)
        (totals + index).update(from: totals + (index &+ 1), count: moved)
      }
    }
    self.count = count &- 1
  }

  /// Copies `count` entries of `source` from `from` on to `index` on. Entries there are
  /// overwritten; counts, totals and prefixes are the caller's. Within one node the ranges may
  /// overlap.
  func copyEntries(_ source: Node, from: Int, to index: Int, count: Int) {
    (heads + index).update(from: source.heads + from, count: count)
    (slots + index).update(from: source.slots + from, count: count)
    if height > 0 {
      (children + index).update(from: source.children + from, count: count)
      (totals + index).update(from: source.totals + from, count: count)
    }
  }

  /// Adds up the totals of an inner node's children, or a leaf's entries.
  func recount() {
    if isLeaf {
      total = count
    } else {
      var sum = 0
      for index in 0..<count { sum &+= Int(totals[index]) }
      total = sum
    }
  }
}

// MARK: Prefix and heads

extension Node {
  /// The eight bytes of `key` from `offset` on as a big-endian number; zeros where it has ended.
  @inline(__always)
  static func head(of key: UnsafeRawBufferPointer, at offset: Int) -> UInt64 {
    let left = key.count &- offset
    if left >= 8 {
      return UInt64(bigEndian: key.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }
    if left <= 0 { return 0 }
    if key.count >= 8 {
      // The last eight bytes, without those before the offset.
      let last = UInt64(
        bigEndian: key.loadUnaligned(fromByteOffset: key.count &- 8, as: UInt64.self))
      return last &<< UInt64(truncatingIfNeeded: 64 &- 8 &* left)
    }
    var head: UInt64 = 0
    for index in offset..<key.count { head = head << 8 | UInt64(key[index]) }
    return head &<< UInt64(truncatingIfNeeded: 64 &- 8 &* left)
  }

  /// How many bytes two keys share at their beginnings, at most `limit`.
  static func sharedLength(
    _ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer, limit: Int
  ) -> Int {
    let end = min(left.count, right.count, limit)
    var length = 0
    while length < end, left[length] == right[length] { length &+= 1 }
    return length
  }

  private var prefixBytes: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: prefix, count: prefixLength)
  }

  /// Finds prefix and heads anew from the node's keys. O(entries), each record touched.
  func rebuildHeads() {
    let count = self.count
    guard count > 0 else { return }
    // Keys are sorted: what the first and the last share, all share.
    let first = Record(address: slots[0]).key
    let last = Record(address: slots[count &- 1]).key
    setPrefix(first, Node.sharedLength(first, last, limit: Node.maximumPrefix))
  }

  /// Cuts or moves the prefix to the first `length` bytes of `key` and computes all heads.
  private func setPrefix(_ key: UnsafeRawBufferPointer, _ length: Int) {
    if let source = key.baseAddress { prefix.copyMemory(from: source, byteCount: length) }
    prefixLength = length
    for index in 0..<count {
      heads[index] = Node.head(of: Record(address: slots[index]).key, at: length)
    }
  }

  /// The head of a key that is about to stand in this node, cutting the prefix if the key doesn't
  /// share it.
  @inline(__always)
  func headForEntry(_ key: UnsafeRawBufferPointer) -> UInt64 {
    let length = prefixLength
    if count == 0 || Node.sharedLength(key, prefixBytes, limit: length) < length {
      return cutPrefix(for: key)
    }
    return Node.head(of: key, at: length)
  }

  @inline(never)
  private func cutPrefix(for key: UnsafeRawBufferPointer) -> UInt64 {
    let length =
      count == 0
      ? min(key.count, Node.maximumPrefix)
      : Node.sharedLength(key, prefixBytes, limit: prefixLength)
    setPrefix(key, length)
    return Node.head(of: key, at: length)
  }
}
