import Primitives
import Raft

/// The first 128 bytes of a segment. `Docs/Formats/WAL.md` has the table.
struct SegmentHeader: Equatable, Sendable {
  static let size = 128
  static let magic: UInt64 = 0x0A4C_4157_4C54_524D  // "MRTLWAL\n" read little-endian
  static let version: UInt32 = 1

  var identity: LogIdentity
  /// Counts the uses of segment files in this log; it tells this use of a recycled file from the last.
  var generation: UInt64
  /// The file's size when it was put to use, in bytes.
  var capacity: UInt64
  /// The log's last entry before the first batch in here; zero if there was none.
  var previousIndex: LogIndex
  var previousTerm: Term
  /// The hard state before the first batch in here, so that older segments aren't needed for it.
  var hardState: HardState
  /// The checksum of the last batch before this segment; zero if there was none.
  var chain: UInt32

  enum Reading: Equatable {
    case header(SegmentHeader)
    /// A whole header of a version this program doesn't know.
    case newer(version: UInt32)
    /// Zeros, or anything that isn't a header.
    case none
  }

  func encode(into target: UnsafeMutableRawPointer) {
    target.initializeMemory(as: UInt8.self, repeating: 0, count: Self.size)
    func put<Value: FixedWidthInteger>(_ value: Value, _ offset: Int) {
      target.storeBytes(of: value.littleEndian, toByteOffset: offset, as: Value.self)
    }
    put(Self.magic, 0)
    put(Self.version, 8)
    put(UInt32(Self.size), 12)
    put(identity.clusterID, 16)
    put(identity.memberID.rawValue, 24)
    put(generation, 32)
    put(capacity, 40)
    put(previousIndex.rawValue, 48)
    put(previousTerm.rawValue, 56)
    put(hardState.term.rawValue, 64)
    put(hardState.vote?.rawValue ?? 0, 72)
    put(hardState.commit.rawValue, 80)
    put(UInt32(hardState.vote == nil ? 0 : 1), 88)
    put(chain, 92)
    let checksum = CRC32C.checksum(UnsafeRawBufferPointer(start: target, count: Self.size - 4))
    put(checksum, Self.size - 4)
  }

  /// Reads the header at the start of `bytes`. The checksum's place is the same in all versions to come.
  static func read(_ bytes: UnsafeRawBufferPointer) -> Reading {
    guard bytes.count >= size else { return .none }
    func get<Value: FixedWidthInteger>(_ offset: Int, _ type: Value.Type = Value.self) -> Value {
      Value(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Value.self))
    }
    guard get(0) == magic else { return .none }
    let covered = UnsafeRawBufferPointer(rebasing: bytes[0..<(size - 4)])
    guard get(size - 4) == CRC32C.checksum(covered) else { return .none }
    let version = get(8, UInt32.self)
    guard version == Self.version else { return .newer(version: version) }
    let hardState = HardState(
      term: Term(get(64)), vote: get(88, UInt32.self) == 0 ? nil : NodeID(get(72)),
      commit: LogIndex(get(80)))
    return .header(
      SegmentHeader(
        identity: LogIdentity(clusterID: get(16), memberID: NodeID(get(24))),
        generation: get(32), capacity: get(40), previousIndex: LogIndex(get(48)),
        previousTerm: Term(get(56)), hardState: hardState, chain: get(92)))
  }
}
