import Primitives

// Snapshot files: the whole state at one log position, in a form that can be checked, streamed and
// looked into with everyday tools.
//
// Problem. A snapshot is written while the member serves, may be gigabytes, is sent to other members
// over links that break, and is trusted blindly once it is loaded. Any byte of it may rot.
//
// Design. The file is a sequence of LZ4 frames as the LZ4 frame format 1.6 defines them, so `lz4 -t`
// checks it and `lz4 -d` shows it. What isn't content hides in skippable frames, which every LZ4
// reader passes over:
//
//   ┌ skippable ┐┌ LZ4 frame ┐┌ LZ4 frame ┐   ┌ skippable ──────────────────────────┐
//   │  header   ││ section 1 ││ section 2 │ … │ index of sections, checksum of all  │
//   └───────────┘└───────────┘└───────────┘   └─────────────────────────────────────┘
//
// Sections have an id and a name and are otherwise opaque; new kinds (deltas, say) need no new format.
// The index comes last because lengths and checksums are known last; a reader finds it from the file's
// end. The last four bytes are the CRC-32C of everything before them, so no byte is uncovered; each
// section's content has its own as well, which tells *what* is damaged and checks the decompression.
//
// A file is written under a name ending in `.writing`, synced, renamed, and its directory synced: a file
// with the final name is complete. A received one grows under a name ending in `.receiving` that holds
// the sender's length and checksum, so that a transfer continues where it broke off, after a crash too,
// and never mixes the bytes of two senders.
//
// Left out: encryption, and random access within a section (each is read from its start).

/// Numbers of the snapshot format. `Docs/Formats/Snapshot.md` has the tables.
enum SnapshotFormat {
  static let version: UInt32 = 1
  static let magic: UInt64 = 0x0A50_4E53_4C54_524D  // "MRTLSNP\n" read little-endian
  static let endMagic: UInt64 = 0x0A44_4E45_4C54_524D  // "MRTLEND\n"
  /// Magic numbers of the skippable frames around the content.
  static let headerFrame: UInt32 = 0x184D_2A50
  static let trailerFrame: UInt32 = 0x184D_2A51
  static let frameHeaderBytes = 8
  /// The whole header frame.
  static let headerBytes = 64
  /// Magic, length and checksums at the end of the trailer.
  static let trailerEndBytes = 24
  /// The smallest trailer: its frame header, a count of zero, its end.
  static let smallestTrailer = frameHeaderBytes + 4 + trailerEndBytes

  /// Appends the header frame.
  static func appendHeader(
    clusterID: UInt64, index: LogIndex, term: Term, to bytes: inout [UInt8]
  ) {
    let start = bytes.count
    bytes.append(littleEndian: headerFrame)
    bytes.append(littleEndian: UInt32(headerBytes - frameHeaderBytes))
    bytes.append(littleEndian: magic)
    bytes.append(littleEndian: version)
    bytes.append(littleEndian: UInt32(0))
    bytes.append(littleEndian: clusterID)
    bytes.append(littleEndian: index.rawValue)
    bytes.append(littleEndian: term.rawValue)
    bytes.append(contentsOf: repeatElement(0, count: headerBytes - 4 - (bytes.count - start)))
    let checksum = bytes.withUnsafeBytes {
      CRC32C.checksum(UnsafeRawBufferPointer(rebasing: $0[start...]))
    }
    bytes.append(littleEndian: checksum)
  }

  /// The trailer frame without the file's checksum, its last four bytes.
  static func trailer(_ sections: [SnapshotSection], startingAt offset: UInt64) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(littleEndian: trailerFrame)
    bytes.append(littleEndian: UInt32(0))
    bytes.append(littleEndian: UInt32(sections.count))
    for section in sections {
      bytes.append(littleEndian: section.id)
      bytes.append(littleEndian: section.offset)
      bytes.append(littleEndian: section.storedBytes)
      bytes.append(littleEndian: section.contentBytes)
      bytes.append(littleEndian: section.checksum)
      bytes.append(UInt8(section.name.utf8.count))
      bytes.append(contentsOf: section.name.utf8)
    }
    let whole = bytes.count + trailerEndBytes
    bytes.append(littleEndian: offset + UInt64(whole))
    bytes.append(littleEndian: endMagic)
    bytes.append(littleEndian: UInt32(whole))
    bytes.store(littleEndian: UInt32(whole - frameHeaderBytes), at: 4)
    return bytes
  }
}

/// A part of a snapshot: some bytes of one meaning.
public struct SnapshotSection: Hashable, Sendable {
  /// Tells the reader what the bytes mean; unique in a file.
  public var id: UInt32
  /// The same for people, in at most 255 bytes.
  public var name: String
  /// Where the section's LZ4 frame starts, and its length, in bytes.
  public var offset: UInt64
  public var storedBytes: UInt64
  /// The length of its content, and the content's CRC-32C.
  public var contentBytes: UInt64
  public var checksum: UInt32
}

/// A step in writing or reading a snapshot.
public enum SnapshotPiece: Hashable, Sendable {
  /// The bytes that follow, up to the next section, belong to this one.
  case section(id: UInt32, name: String)
  /// Content, in pieces of any size up to ``SnapshotLimits/pieceBytes``.
  case bytes([UInt8])
}

/// The bounds of snapshot files and of one step of work on them.
public enum SnapshotLimits {
  /// The most content in one step of a writer and in one piece of a reader: what a step costs at most.
  public static let pieceBytes = 1 << 20
  /// Compressed bytes gathered before they are written.
  public static let writeBytes = 256 << 10
  /// Written bytes after which a sync is put in. One sync at the end would hold up the log's.
  public static let syncBytes: UInt64 = 8 << 20
  /// Sections in a file, and so the size of the index that a reader believes.
  public static let sections = 4096
}

/// A complete snapshot file.
public struct SnapshotFile: Hashable, Sendable {
  public var path: String
  /// The log position that the snapshot stands for.
  public var index: LogIndex
  public var term: Term
  /// The file's length, and its checksum (its last four bytes): together they tell one file from another.
  public var bytes: UInt64
  public var checksum: UInt32

  public init(path: String, index: LogIndex, term: Term, bytes: UInt64, checksum: UInt32) {
    self.path = path
    self.index = index
    self.term = term
    self.bytes = bytes
    self.checksum = checksum
  }

  /// A job that reads up to `maxBytes` at `offset`, to send them to another member.
  public func chunkJob(ticket: DiskTicket, at offset: UInt64, maxBytes: Int) -> DiskJob {
    DiskJob(
      ticket: ticket, operations: [.read(path: path, offset: offset, count: maxBytes)])
  }

  static let suffix = ".snapshot"

  static func name(index: LogIndex, term: Term) -> String {
    hexadecimal(index.rawValue) + "-" + hexadecimal(term.rawValue)
  }

  /// Sixteen digits, so that names sort as numbers do.
  static func hexadecimal(_ value: UInt64) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }

  /// The position that a name stands for, nil if it isn't a snapshot's.
  static func position(ofName name: String) -> (index: LogIndex, term: Term)? {
    let parts = name.prefix { $0 != "." }.split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count >= 2, parts[0].count == 16, parts[1].count == 16,
      let index = UInt64(parts[0], radix: 16), let term = UInt64(parts[1], radix: 16)
    else { return nil }
    return (LogIndex(index), Term(term))
  }
}
