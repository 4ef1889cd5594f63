/// A lease as it lies in memory, by its address. `Arena` says how long.
///
/// ```
///  0  u64  epoch that made the entry
///  8  i64  id
/// 16  i64  granted seconds
/// 24  i64  remaining seconds, as of the last checkpoint
/// 32  ptr  root of the tree of attached keys' live records, or null
/// ```
struct LeaseEntry {
  let address: UnsafeMutableRawPointer
  static let size = 40

  init(address: UnsafeMutableRawPointer) { self.address = address }

  static func make(id: Int64, granted: Int64, remaining: Int64, epoch: UInt64) -> LeaseEntry {
    let address = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 8)
    address.storeBytes(of: epoch, as: UInt64.self)
    address.storeBytes(of: id, toByteOffset: 8, as: Int64.self)
    address.storeBytes(of: granted, toByteOffset: 16, as: Int64.self)
    address.storeBytes(of: remaining, toByteOffset: 24, as: Int64.self)
    address.storeBytes(of: nil, toByteOffset: 32, as: UnsafeMutableRawPointer?.self)
    return LeaseEntry(address: address)
  }

  var epoch: UInt64 { address.load(as: UInt64.self) }
  var id: Int64 { address.load(fromByteOffset: 8, as: Int64.self) }
  var granted: Int64 { address.load(fromByteOffset: 16, as: Int64.self) }
  var remaining: Int64 {
    get { address.load(fromByteOffset: 24, as: Int64.self) }
    nonmutating set { address.storeBytes(of: newValue, toByteOffset: 24, as: Int64.self) }
  }
  /// The live records of the attached keys, in the order of keys.
  var keys: Tree {
    get {
      let root = address.load(fromByteOffset: 32, as: UnsafeMutableRawPointer?.self)
      return Tree(order: .key, root: root.map { Node(address: $0) })
    }
    nonmutating set {
      address.storeBytes(
        of: newValue.root?.address, toByteOffset: 32, as: UnsafeMutableRawPointer?.self)
    }
  }

  /// The key's place in the tree of leases: ids in signed order as unsigned words.
  var word: UInt64 { LeaseEntry.word(of: id) }
  static func word(of id: Int64) -> UInt64 { UInt64(bitPattern: id) ^ (1 << 63) }
}
