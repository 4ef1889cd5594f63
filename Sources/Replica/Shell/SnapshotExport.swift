import Persistence
import Primitives

/// A snapshot made for a client, in a file of its own that goes when nobody needs it any more.
public final class SnapshotExport: Sendable {
  public let bytes: UInt64
  private let path: String
  private let fileSystem: any FileSystem

  init(path: String, bytes: UInt64, fileSystem: any FileSystem) {
    self.path = path
    self.bytes = bytes
    self.fileSystem = fileSystem
  }

  deinit { _ = try? fileSystem.perform(.remove(path: path)) }

  /// Reads up to `count` bytes from `offset` on. Blocks.
  public func read(at offset: UInt64, count: Int) throws -> [UInt8] {
    try fileSystem.read(path, at: offset, count: count)
  }
}

/// What a client gets of a snapshot: the file, padding, and a footer; a SHA-256 of all that follows it.
///
/// etcdctl takes a snapshot for whole if its size is a multiple of 512 and 32 bytes more, which are the
/// checksum; etcd's own files come in pages. So ours are padded.
///
///     snapshot file | zeros | u64 length of the file | "MARTLETB" | SHA-256 of everything before
///                                                                └ at a multiple of 512
public enum SnapshotBlob {
  public static let checksumBytes = 32
  static let magic: [UInt8] = Array("MARTLETB".utf8)
  static let footerBytes = 16
  static let pageBytes: UInt64 = 512

  /// What follows a file of this size, before the checksum.
  public static func tail(behind fileBytes: UInt64) -> [UInt8] {
    let end = fileBytes + UInt64(footerBytes)
    let padding = (pageBytes - end % pageBytes) % pageBytes
    var tail = [UInt8](repeating: 0, count: Int(padding))
    tail.append(littleEndian: fileBytes)
    return tail + magic
  }

  /// The size of the snapshot file in a blob, from the blob's size without the checksum and the last 16 bytes
  /// of that; nil where it is no blob.
  public static func fileBytes(ofBlob bytes: UInt64, footer: [UInt8]) -> UInt64? {
    guard footer.count == footerBytes, Array(footer[8...]) == magic else { return nil }
    let length = footer[..<8].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    guard length <= bytes, bytes - length >= UInt64(footerBytes),
      bytes - length < UInt64(footerBytes) + pageBytes
    else { return nil }
    return length
  }
}
