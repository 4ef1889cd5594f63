import CLZ4
import Primitives
import Raft

/// A batch whose checksum holds, still in its encoded form.
struct StoredBatch {
  /// The batch's own checksum, and that of the batch before it.
  var checksum: UInt32
  var previous: UInt32
  var flags: UInt8
  var body: UnsafeRawBufferPointer
  /// The distance to the next batch in bytes: header, body and padding.
  var stride: Int
}

/// What a batch holds.
struct DecodedBatch: Equatable {
  var base: Position?
  var hardState: HardState?
  /// The first entry's index; nil if there are none.
  var first: LogIndex?
  /// The last entry, if there is one.
  var last: Position?
  /// Where terms begin, in order.
  var terms: [TermRun] = []
  /// The entries that were asked for.
  var entries: [Entry] = []

  struct Position: Equatable {
    var index: LogIndex
    var term: Term
  }
}

/// Reads batches out of bytes that may be anything.
enum BatchDecoder {
  /// The batch at `offset` of `bytes`, which start at `origin` of a segment; nil if none validates there.
  static func batch(
    in bytes: UnsafeRawBufferPointer, at offset: Int, origin: UInt64, generation: UInt64
  ) -> StoredBatch? {
    guard offset >= 0, bytes.count - offset >= BatchHeader.size else { return nil }
    func get<Value: FixedWidthInteger>(_ place: Int, _ type: Value.Type) -> Value {
      Value(littleEndian: bytes.loadUnaligned(fromByteOffset: offset + place, as: Value.self))
    }
    guard get(14, UInt8.self) == BatchHeader.magic,
      get(12, UInt16.self) == UInt16(truncatingIfNeeded: generation)
    else { return nil }
    let count = Int(get(8, UInt32.self))
    guard count >= BatchHeader.size, count <= bytes.count - offset else { return nil }
    let covered = UnsafeRawBufferPointer(rebasing: bytes[(offset + 4)..<(offset + count)])
    let seed = BatchHeader.seed(generation: generation, offset: origin &+ UInt64(offset))
    let checksum = get(0, UInt32.self)
    guard CRC32C.checksum(covered, seed: seed) == checksum else { return nil }
    return StoredBatch(
      checksum: checksum, previous: get(4, UInt32.self), flags: get(15, UInt8.self),
      body: UnsafeRawBufferPointer(
        rebasing: bytes[(offset + BatchHeader.size)..<(offset + count)]),
      stride: (count + 7) & ~7)
  }

  /// The first multiple of 8 from `offset` on at which a batch of `generation` validates.
  static func firstBatch(
    in bytes: UnsafeRawBufferPointer, from offset: Int, origin: UInt64, generation: UInt64
  ) -> Int? {
    var place = (offset + 7) & ~7
    let low = UInt16(truncatingIfNeeded: generation)
    // Length, generation, magic and flags share eight bytes: one comparison rejects almost everything.
    let wanted = UInt64(low) << 32 | UInt64(BatchHeader.magic) << 48
    let mask: UInt64 = 0x00FF_FFFF_0000_0000
    while place <= bytes.count - BatchHeader.size {
      let word = UInt64(
        littleEndian: bytes.loadUnaligned(fromByteOffset: place + 8, as: UInt64.self))
      if word & mask == wanted,
        batch(in: bytes, at: place, origin: origin, generation: generation) != nil
      {
        return place
      }
      place += 8
    }
    return nil
  }

  /// Decodes a batch, with the payloads of the entries in `wanted` alone.
  ///
  /// - Throws: `corrupt` or `newerFormat`, without a path.
  static func decode(
    _ batch: StoredBatch, wanted: ClosedRange<LogIndex>?
  ) throws(PersistenceError) -> DecodedBatch {
    guard batch.flags & ~BatchHeader.Flags.known == 0 else {
      throw PersistenceError(
        .newerFormat, "a batch has flags \(batch.flags) of a newer release; run that one")
    }
    guard batch.flags & BatchHeader.Flags.compressed != 0 else {
      return try decode(body: batch.body, flags: batch.flags, wanted: wanted)
    }
    let plain = try decompress(batch.body)
    let result: Result<DecodedBatch, PersistenceError> = plain.withUnsafeBytes { body in
      do throws(PersistenceError) {
        return .success(try decode(body: body, flags: batch.flags, wanted: wanted))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }

  private static func decompress(
    _ body: UnsafeRawBufferPointer
  ) throws(PersistenceError) -> [UInt8] {
    guard body.count > 4 else { throw malformed("a compressed body of \(body.count) bytes") }
    let size = Int(UInt32(littleEndian: body.loadUnaligned(as: UInt32.self)))
    let packed = UnsafeRawBufferPointer(rebasing: body[4...])
    // LZ4 can't expand a byte to more than 255: a damaged size isn't worth an allocation.
    guard packed.count <= WriteAheadLog.Limits.batchBytes,
      size <= WriteAheadLog.Limits.batchBytes, size / 255 <= packed.count
    else {
      throw malformed("a compressed body of \(packed.count) bytes claims \(size)")
    }
    var outcome: Int32 = -1
    let plain = [UInt8](unsafeUninitializedCapacity: size) { buffer, filled in
      filled = 0
      guard let source = packed.baseAddress, let target = buffer.baseAddress else { return }
      outcome = LZ4_decompress_safe(
        source.assumingMemoryBound(to: CChar.self),
        UnsafeMutableRawPointer(target).assumingMemoryBound(to: CChar.self),
        Int32(packed.count), Int32(size))
      filled = max(0, Int(outcome))
    }
    guard Int(outcome) == size else { throw malformed("a compressed body doesn't decompress") }
    return plain
  }

  static func decode(
    body: UnsafeRawBufferPointer, flags: UInt8, wanted: ClosedRange<LogIndex>?
  ) throws(PersistenceError) -> DecodedBatch {
    var reader = ByteReader(body)
    do throws(ByteReaderError) {
      return try decode(&reader, flags: flags, wanted: wanted)
    } catch {
      throw malformed("a batch doesn't decode: \(error)")
    }
  }

  private static func decode(
    _ reader: inout ByteReader, flags: UInt8, wanted: ClosedRange<LogIndex>?
  ) throws(ByteReaderError) -> DecodedBatch {
    var batch = DecodedBatch()
    if flags & BatchHeader.Flags.base != 0 {
      let index = LogIndex(try reader.readVarint())
      batch.base = DecodedBatch.Position(index: index, term: Term(try reader.readVarint()))
    }
    if flags & BatchHeader.Flags.hardState != 0 {
      let term = Term(try reader.readVarint())
      var vote: NodeID?
      if flags & BatchHeader.Flags.vote != 0 { vote = NodeID(try reader.read(UInt64.self)) }
      batch.hardState = HardState(
        term: term, vote: vote, commit: LogIndex(try reader.readVarint()))
    }
    let count = try reader.readVarint()
    if count > 0 {
      let first = try reader.readVarint()
      var term = try reader.readVarint()
      // Every entry takes a byte at least, and no index may pass the end of the numbers.
      guard count <= UInt64(reader.remaining), first > 0, first <= .max - count else {
        throw ByteReaderError(.outOfRange, offset: reader.offset)
      }
      batch.first = LogIndex(first)
      batch.terms.append(TermRun(first: LogIndex(first), term: Term(term)))
      for step in 0..<count {
        let index = LogIndex(first + step)
        let tag = try reader.readVarint()
        guard let kind = Entry.Kind(rawValue: UInt8(tag & 3)) else {
          throw ByteReaderError(.outOfRange, offset: reader.offset)
        }
        if tag & 4 != 0 {
          let (sum, overflow) = term.addingReportingOverflow(try reader.readVarint())
          if overflow { throw ByteReaderError(.outOfRange, offset: reader.offset) }
          term = sum
          batch.terms.append(TermRun(first: index, term: Term(term)))
        }
        guard tag >> 3 <= UInt64(reader.remaining) else {
          throw ByteReaderError(.truncated, offset: reader.offset)
        }
        let payload = try reader.readBytes(Int(tag >> 3))
        if let wanted, wanted.contains(index) {
          batch.entries.append(
            Entry(index: index, term: Term(term), kind: kind, payload: [UInt8](payload)))
        }
      }
      batch.last = DecodedBatch.Position(
        index: LogIndex(first + count - 1), term: Term(term))
    }
    guard reader.isAtEnd else { throw ByteReaderError(.outOfRange, offset: reader.offset) }
    return batch
  }

  private static func malformed(_ message: String) -> PersistenceError {
    PersistenceError(
      .corrupt, "\(message), though its checksum holds; report this, and restore from the peers")
  }
}
