import Primitives

/// Reads a snapshot file, which it has verified as a whole before it hands out the first byte.
public struct SnapshotReader {
  public let file: SnapshotFile
  public let clusterID: UInt64
  /// In the order of the file.
  public let sections: [SnapshotSection]
  private let fileSystem: any FileSystem

  /// The section being read, nil before the first.
  private var current: SectionReader?
  private var nextSection = 0

  /// Opens the file and verifies every byte of it. Blocks for as long as reading it takes.
  ///
  /// - Parameter clusterID: the cluster it must belong to; nil takes any.
  /// - Throws: `corrupt`, `foreign`, `newerFormat`, `missing` or `io`.
  public init(
    path: String, clusterID: UInt64?, fileSystem: any FileSystem
  ) throws(PersistenceError) {
    guard let size = try fileSystem.size(path) else {
      throw PersistenceError(.missing, "there is no such snapshot", path: path)
    }
    func corrupt(_ what: String, _ offset: UInt64) -> PersistenceError {
      PersistenceError(
        .corrupt, "\(what); an older snapshot or the peers can replace it", path: path,
        offset: offset)
    }
    guard size >= UInt64(SnapshotFormat.headerBytes + SnapshotFormat.smallestTrailer) else {
      throw corrupt("a snapshot of \(size) bytes is too short", size)
    }
    let header = try fileSystem.read(path, at: 0, count: SnapshotFormat.headerBytes)
    let front: Result<SnapshotHeader, PersistenceError> = header.withUnsafeBytes { raw in
      do throws(PersistenceError) {
        return .success(try SnapshotHeader(raw, path: path))
      } catch {
        return .failure(error)
      }
    }
    let position = try front.get()

    // The checksum of all bytes first: what follows may then rely on what the writer wrote.
    var running: UInt32 = 0
    var offset: UInt64 = 0
    while offset < size - 4 {
      let count = Int(min(size - 4 - offset, UInt64(SnapshotLimits.pieceBytes)))
      let piece = try fileSystem.read(path, at: offset, count: count)
      guard piece.count == count else { throw corrupt("the file became shorter", offset) }
      running = CRC32C.checksum(piece, seed: running)
      offset += UInt64(count)
    }
    let last = try fileSystem.read(path, at: size - 8, count: 8)
    var end = (length: UInt32(0), checksum: UInt32(0))
    if last.count == 8 {
      last.withUnsafeBytes { raw in
        end.length = UInt32(littleEndian: raw.loadUnaligned(as: UInt32.self))
        end.checksum = UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
      }
    }
    var isSound = last.count == 8 && end.checksum == running
    #if PLANTED_BUGS
      if PlantedBug.unverifiedSnapshot.isPlanted { isSound = true }
    #endif
    guard isSound else {
      throw corrupt("the snapshot's checksum doesn't match", size - 4)
    }
    let trailerBytes = UInt64(end.length)
    guard trailerBytes >= UInt64(SnapshotFormat.smallestTrailer),
      trailerBytes <= size - UInt64(SnapshotFormat.headerBytes),
      trailerBytes <= UInt64(SnapshotLimits.sections * 300 + SnapshotFormat.smallestTrailer)
    else {
      throw corrupt("the index can't be \(trailerBytes) bytes long", size - 8)
    }
    let start = size - trailerBytes
    let trailer = try fileSystem.read(path, at: start, count: Int(trailerBytes))
    let sections: Result<[SnapshotSection], ByteReaderError> = trailer.withUnsafeBytes { raw in
      do throws(ByteReaderError) {
        return .success(try SnapshotFormat.readTrailer(raw, fileBytes: size))
      } catch {
        return .failure(error)
      }
    }
    switch sections {
    case .success(let sections): self.sections = sections
    case .failure(let error): throw corrupt("the index doesn't decode: \(error)", start)
    }
    if let clusterID, position.clusterID != clusterID {
      throw PersistenceError(
        .foreign,
        "the snapshot belongs to cluster \(String(position.clusterID, radix: 16)), not to "
          + "\(String(clusterID, radix: 16)); use this member's own directory", path: path)
    }
    self.clusterID = position.clusterID
    self.fileSystem = fileSystem
    file = SnapshotFile(
      path: path, index: position.index, term: position.term, bytes: size, checksum: end.checksum)
  }

  /// The next piece of the file, in the order in which it was written; nil at the end. Pieces of content
  /// have at most 1 MiB.
  ///
  /// - Throws: `corrupt` or `io`. What was read before is then of no use.
  public mutating func next() throws(PersistenceError) -> SnapshotPiece? {
    let fileSystem = fileSystem
    if let bytes = try current?.next(fileSystem) { return .bytes(bytes) }
    current = nil
    guard nextSection < sections.count else { return nil }
    let section = sections[nextSection]
    nextSection += 1
    current = try SectionReader(section, path: file.path)
    return .section(id: section.id, name: section.name)
  }

  /// The whole content of one small section, nil if the file has no such section.
  ///
  /// - Throws: `corrupt`, `io`, or `invalid` if it is larger than `maxBytes`.
  public func contents(ofSection id: UInt32, maxBytes: Int = 1 << 20) throws(PersistenceError)
    -> [UInt8]?
  {
    guard let section = sections.first(where: { $0.id == id }) else { return nil }
    guard section.contentBytes <= UInt64(clamping: maxBytes) else {
      throw PersistenceError(
        .invalid,
        "section \(section.name) has \(section.contentBytes) bytes, at most \(maxBytes) "
          + "were expected", path: file.path, offset: section.offset)
    }
    var reader = try SectionReader(section, path: file.path)
    var bytes: [UInt8] = []
    while let piece = try reader.next(fileSystem) { bytes += piece }
    return bytes
  }
}

/// The position that a snapshot's header names.
struct SnapshotHeader {
  var clusterID: UInt64
  var index: LogIndex
  var term: Term

  init(_ bytes: UnsafeRawBufferPointer, path: String) throws(PersistenceError) {
    func get<Value: FixedWidthInteger>(_ offset: Int, _ type: Value.Type = Value.self) -> Value {
      Value(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Value.self))
    }
    let size = SnapshotFormat.headerBytes
    guard bytes.count >= size, get(0) == SnapshotFormat.headerFrame,
      get(8) == SnapshotFormat.magic,
      CRC32C.checksum(UnsafeRawBufferPointer(rebasing: bytes[0..<(size - 4)])) == get(size - 4)
    else {
      throw PersistenceError(
        .corrupt, "the snapshot's header is damaged; an older snapshot or the peers can replace it",
        path: path, offset: 0)
    }
    let version = get(16, UInt32.self)
    guard version == SnapshotFormat.version else {
      throw PersistenceError(
        .newerFormat,
        "the snapshot has format \(version), this release knows \(SnapshotFormat.version); run a "
          + "newer release", path: path)
    }
    clusterID = get(24)
    index = LogIndex(get(32))
    term = Term(get(40))
  }
}

extension SnapshotFormat {
  /// Reads a trailer frame, and checks that the sections tile the file between header and trailer.
  static func readTrailer(
    _ bytes: UnsafeRawBufferPointer, fileBytes: UInt64
  ) throws(ByteReaderError) -> [SnapshotSection] {
    var reader = ByteReader(bytes)
    func outOfRange() -> ByteReaderError { ByteReaderError(.outOfRange, offset: reader.offset) }
    guard try reader.read(UInt32.self) == trailerFrame,
      Int(try reader.read(UInt32.self)) == bytes.count - frameHeaderBytes
    else { throw outOfRange() }
    let count = Int(try reader.read(UInt32.self))
    guard count <= SnapshotLimits.sections else { throw outOfRange() }
    var sections: [SnapshotSection] = []
    var position = UInt64(headerBytes)
    for _ in 0..<count {
      let section = SnapshotSection(
        id: try reader.read(), name: "", offset: try reader.read(), storedBytes: try reader.read(),
        contentBytes: try reader.read(), checksum: try reader.read())
      let name = try reader.readBytes(Int(try reader.read(UInt8.self)))
      let (end, overflow) = section.offset.addingReportingOverflow(section.storedBytes)
      guard section.offset == position, !overflow,
        end <= fileBytes - min(fileBytes, UInt64(bytes.count)),
        !sections.contains(where: { $0.id == section.id })
      else { throw outOfRange() }
      position = end
      sections.append(section)
      sections[sections.count - 1].name = String(decoding: name, as: UTF8.self)
    }
    guard position == fileBytes - min(fileBytes, UInt64(bytes.count)),
      try reader.read(UInt64.self) == fileBytes, try reader.read(UInt64.self) == endMagic,
      Int(try reader.read(UInt32.self)) == bytes.count, reader.remaining == 4
    else { throw outOfRange() }
    return sections
  }
}

/// Decompresses one section.
struct SectionReader {
  private let section: SnapshotSection
  private let path: String
  private let decoder: FrameDecoder
  /// Compressed bytes read ahead, and how many of them are used up.
  private var input: [UInt8] = []
  private var used = 0
  /// Compressed bytes read so far, content bytes handed out, and their checksum.
  private var consumed: UInt64 = 0
  private var produced: UInt64 = 0
  private var checksum: UInt32 = 0
  private var isComplete = false

  init(_ section: SnapshotSection, path: String) throws(PersistenceError) {
    guard let decoder = FrameDecoder() else {
      throw PersistenceError(.io, "no memory for the LZ4 decompressor")
    }
    self.section = section
    self.path = path
    self.decoder = decoder
  }

  /// The next piece of content, never empty; nil after the last, when all has been checked.
  mutating func next(_ fileSystem: any FileSystem) throws(PersistenceError) -> [UInt8]? {
    while !isComplete {
      if used == input.count {
        let left = section.storedBytes - consumed
        guard left > 0 else { throw corrupt("ends early") }
        let count = Int(min(left, UInt64(SnapshotLimits.writeBytes)))
        input = try fileSystem.read(path, at: section.offset + consumed, count: count)
        guard input.count == count else { throw corrupt("is cut short") }
        used = 0
        consumed += UInt64(count)
      }
      // One byte more than should come, so that a surplus is noticed; one at least to make progress.
      let room = Int(
        min(section.contentBytes - produced, UInt64(SnapshotLimits.pieceBytes - 1)) + 1)
      var step: (consumed: Int, produced: Int, isComplete: Bool)?
      let bytes = [UInt8](unsafeUninitializedCapacity: room) { output, filled in
        step = input.withUnsafeBytes { raw in
          decoder.decode(
            UnsafeRawBufferPointer(rebasing: raw[used...]),
            into: UnsafeMutableRawBufferPointer(output))
        }
        filled = step?.produced ?? 0
      }
      guard let step else { throw corrupt("doesn't decompress") }
      used += step.consumed
      isComplete = step.isComplete
      produced += UInt64(bytes.count)
      guard produced <= section.contentBytes else { throw corrupt("is longer than it should be") }
      checksum = CRC32C.checksum(bytes, seed: checksum)
      if !bytes.isEmpty { return bytes }
      if !isComplete && step.consumed == 0 && used < input.count {
        throw corrupt("doesn't decompress")
      }
    }
    guard produced == section.contentBytes, consumed == section.storedBytes, used == input.count,
      checksum == section.checksum
    else { throw corrupt("doesn't match its checksum") }
    return nil
  }

  private func corrupt(_ what: String) -> PersistenceError {
    PersistenceError(
      .corrupt,
      "section \(section.id) (\(section.name)) \(what); an older snapshot or the peers can replace it",
      path: path, offset: section.offset)
  }
}
