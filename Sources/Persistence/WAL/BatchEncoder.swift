import CLZ4
import Primitives
import Raft

/// The 16 bytes in front of every batch. `Docs/Formats/WAL.md` has the tables.
enum BatchHeader {
  static let size = 16
  static let magic: UInt8 = 0xB5

  /// Bits of the flags byte.
  enum Flags {
    static let compressed: UInt8 = 1 << 0
    static let hardState: UInt8 = 1 << 1
    static let vote: UInt8 = 1 << 2
    static let base: UInt8 = 1 << 3
    static let known: UInt8 = 0x0F
  }

  /// What the checksum of a batch starts from: where in the log's history, and where in the file, the
  /// batch lies. Bytes of another use of the file, or at another place, don't validate.
  static func seed(generation: UInt64, offset: UInt64) -> UInt32 {
    #if PLANTED_BUGS
      if PlantedBug.placelessChecksum.isPlanted { return 0 }
    #endif
    let place = (generation.littleEndian, offset.littleEndian)
    return withUnsafeBytes(of: place) { CRC32C.checksum($0) }
  }
}

/// Writes batches. A batch's body lies in its buffer behind room for a segment header and the batch
/// header, so that a batch that opens a segment is still one write.
///
/// Varints keep the cost of a Raft entry at 3 bytes for payloads up to 4 KiB, and the rest of a batch at
/// some 30: less than etcd's framing, which spends about 45 bytes on each put.
enum BatchEncoder {
  /// Where the batch header starts in the buffer.
  static let start = SegmentHeader.size
  /// Where the body starts.
  static let bodyStart = SegmentHeader.size + BatchHeader.size
  /// The most that a varint takes.
  private static let varintBytes = 10

  /// Encodes everything but checksum, previous checksum and generation, which depend on where the batch
  /// will lie. Returns the batch's bytes, header included.
  static func encode(
    base: (index: LogIndex, term: Term)?, hardState: HardState?, entries: [Entry],
    into buffer: DiskBuffer
  ) -> Int {
    // An upper bound, so that the loop below needs no checks: base, hard state and counts take at
    // most seven varints and the vote, an entry two varints and its payload.
    var bound = bodyStart + 8 * varintBytes
    for entry in entries { bound += 2 * varintBytes + entry.payload.count }
    invariant(bound <= WriteAheadLog.Limits.batchBytes, "a batch of \(bound) bytes")
    buffer.reserve(bound, keeping: 0)

    var flags: UInt8 = 0
    var cursor = buffer.base + bodyStart
    if let base {
      flags |= BatchHeader.Flags.base
      put(varint: base.index.rawValue, &cursor)
      put(varint: base.term.rawValue, &cursor)
    }
    if let hardState {
      flags |= BatchHeader.Flags.hardState
      put(varint: hardState.term.rawValue, &cursor)
      if let vote = hardState.vote {
        flags |= BatchHeader.Flags.vote
        cursor.storeBytes(of: vote.rawValue.littleEndian, as: UInt64.self)
        cursor += 8
      }
      put(varint: hardState.commit.rawValue, &cursor)
    }
    put(varint: UInt64(entries.count), &cursor)
    if let first = entries.first {
      put(varint: first.index.rawValue, &cursor)
      put(varint: first.term.rawValue, &cursor)
      var term = first.term
      var index = first.index
      for entry in entries {
        invariant(entry.index == index, "entries \(index) and \(entry.index) aren't consecutive")
        invariant(entry.term >= term, "the term falls at entry \(index)")
        index = index.next
        var tag = UInt64(entry.payload.count) << 3 | UInt64(entry.kind.rawValue)
        let step = entry.term.rawValue - term.rawValue
        if step != 0 { tag |= 4 }
        put(varint: tag, &cursor)
        if step != 0 { put(varint: step, &cursor) }
        term = entry.term
        entry.payload.withUnsafeBytes { payload in
          guard let bytes = payload.baseAddress else { return }
          cursor.copyMemory(from: bytes, byteCount: payload.count)
        }
        cursor += entry.payload.count
      }
    }
    return finish(buffer, end: cursor, flags: flags)
  }

  /// Compresses the batch in `source` into `target`, unless that gains less than an eighth.
  ///
  /// Random or compressed values are common and would cost time for nothing, so a sample from the
  /// middle decides first.
  static func compress(_ source: DiskBuffer, count: Int, into target: DiskBuffer) -> Int? {
    let body = source.base + bodyStart
    let bodyBytes = count - BatchHeader.size
    let bound = Int(LZ4_compressBound(Int32(clamping: bodyBytes)))
    guard bodyBytes > 0, bound > 0 else { return nil }
    target.reserve(bodyStart + 4 + bound + 8, keeping: 0)
    let room = target.base + bodyStart + 4

    let sampleBytes = min(bodyBytes, 4 << 10)
    let sample = body + (bodyBytes - sampleBytes) / 2
    if shrunk(sample, sampleBytes, into: room, bound: bound) == nil { return nil }
    guard let compressed = shrunk(body, bodyBytes, into: room, bound: bound) else { return nil }

    (target.base + bodyStart).storeBytes(of: UInt32(bodyBytes).littleEndian, as: UInt32.self)
    let flags = source.base.load(fromByteOffset: start + 15, as: UInt8.self)
    return finish(
      target, end: room + compressed, flags: flags | BatchHeader.Flags.compressed)
  }

  /// The compressed size, nil if that isn't an eighth smaller.
  private static func shrunk(
    _ bytes: UnsafeMutableRawPointer, _ count: Int, into room: UnsafeMutableRawPointer, bound: Int
  ) -> Int? {
    let limit = min(count - count / 8, bound)
    // A higher acceleration skips faster over what doesn't compress; 4 costs a few percent of ratio.
    let written = LZ4_compress_fast(
      bytes.assumingMemoryBound(to: CChar.self), room.assumingMemoryBound(to: CChar.self),
      Int32(count), Int32(limit), 4)
    return written > 0 ? Int(written) : nil
  }

  /// Writes length, magic and flags.
  private static func finish(
    _ buffer: DiskBuffer, end: UnsafeMutableRawPointer, flags: UInt8
  ) -> Int {
    let count = end - (buffer.base + start)
    let header = buffer.base + start
    header.storeBytes(of: UInt32(count).littleEndian, toByteOffset: 8, as: UInt32.self)
    header.storeBytes(of: BatchHeader.magic, toByteOffset: 14, as: UInt8.self)
    header.storeBytes(of: flags, toByteOffset: 15, as: UInt8.self)
    return count
  }

  /// Writes what depends on the batch's place, and the checksum, which it returns.
  static func seal(
    _ buffer: DiskBuffer, count: Int, previous: UInt32, generation: UInt64, offset: UInt64
  ) -> UInt32 {
    let header = buffer.base + start
    header.storeBytes(of: previous.littleEndian, toByteOffset: 4, as: UInt32.self)
    header.storeBytes(
      of: UInt16(truncatingIfNeeded: generation).littleEndian, toByteOffset: 12, as: UInt16.self)
    let checksum = CRC32C.checksum(
      UnsafeRawBufferPointer(start: header + 4, count: count - 4),
      seed: BatchHeader.seed(generation: generation, offset: offset))
    header.storeBytes(of: checksum.littleEndian, as: UInt32.self)
    return checksum
  }

  @inline(__always)
  private static func put(varint value: UInt64, _ cursor: inout UnsafeMutableRawPointer) {
    var rest = value
    while rest >= 0x80 {
      cursor.storeBytes(of: UInt8(truncatingIfNeeded: rest) | 0x80, as: UInt8.self)
      cursor += 1
      rest &>>= 7
    }
    cursor.storeBytes(of: UInt8(truncatingIfNeeded: rest), as: UInt8.self)
    cursor += 1
  }
}
