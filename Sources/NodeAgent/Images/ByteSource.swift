import CZlib
import Glibc

/// Bytes that come piece by piece: a file, or the inflated content of another source.
protocol ByteSource: ~Copyable {
  /// The next piece, of any size but zero; empty at the end.
  mutating func next() throws -> [UInt8]
}

/// A file, hashed while it is read.
struct FileSource: ByteSource, ~Copyable {
  private let file: Descriptor
  private var hasher = Digest.Hasher()
  /// How much has been read, in bytes.
  private(set) var count: Int64 = 0

  static let pieceBytes = 128 << 10

  init(_ path: String) throws(SystemError) {
    file = try Descriptor(opening: path, O_RDONLY)
  }

  mutating func next() throws -> [UInt8] {
    let bytes = try file.read(upTo: Self.pieceBytes)
    bytes.withUnsafeBytes { hasher.update($0) }
    count += Int64(bytes.count)
    return bytes
  }

  /// The digest of what was read so far.
  var digest: Digest { hasher.finish() }
}

/// Inflates gzip, or passes other content through: the first two bytes tell.
///
/// Members that follow one another are one stream, as `gzip` itself reads them. The inflated content is
/// hashed, because an image's `diff_ids` are digests of it.
struct InflatingSource: ByteSource, ~Copyable {
  private var base: FileSource
  private var mode = Mode.unknown
  private var input: [UInt8] = []
  private var inputOffset = 0
  private var isInputAtEnd = false
  private var hasher = Digest.Hasher()
  /// How much has come out, in bytes.
  private(set) var count: Int64 = 0

  private enum Mode {
    case unknown
    case plain
    case gzip(UnsafeMutablePointer<z_stream>, isBetweenMembers: Bool)
  }

  static let pieceBytes = 256 << 10

  init(_ base: consuming FileSource) { self.base = base }

  deinit {
    if case .gzip(let stream, _) = mode {
      inflateEnd(stream)
      stream.deinitialize(count: 1)
      stream.deallocate()
    }
  }

  /// The digest of the inflated content so far.
  var digest: Digest { hasher.finish() }

  mutating func next() throws -> [UInt8] {
    if case .unknown = mode { try start() }
    let piece: [UInt8]
    switch mode {
    case .unknown, .plain:
      if inputOffset < input.count {
        piece = Array(input[inputOffset...])
        input = []
        inputOffset = 0
      } else {
        piece = try base.next()
      }
    case .gzip(let stream, _):
      piece = try inflatePiece(stream)
    }
    piece.withUnsafeBytes { hasher.update($0) }
    count += Int64(piece.count)
    return piece
  }

  private mutating func start() throws {
    while input.count < 2 {
      let piece = try base.next()
      if piece.isEmpty { break }
      input += piece
    }
    guard input.count >= 2, input[0] == 0x1F, input[1] == 0x8B else {
      if input.count >= 4, input[0] == 0x28, input[1] == 0xB5, input[2] == 0x2F, input[3] == 0xFD {
        throw ImageError(
          .corrupt, "layers compressed with zstd are not supported; recompress them with gzip")
      }
      mode = .plain
      return
    }
    let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
    stream.initialize(to: z_stream())
    // 15 + 16: a window of 32 KiB, and the gzip format with its checksum.
    guard
      inflateInit2_(stream, 31, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
    else {
      stream.deinitialize(count: 1)
      stream.deallocate()
      throw ImageError(.system, "zlib could not be started")
    }
    mode = .gzip(stream, isBetweenMembers: false)
  }

  private mutating func inflatePiece(_ stream: UnsafeMutablePointer<z_stream>) throws -> [UInt8] {
    while true {
      if inputOffset == input.count, !isInputAtEnd {
        input = try base.next()
        inputOffset = 0
        isInputAtEnd = input.isEmpty
      }
      if case .gzip(_, let isBetweenMembers) = mode, isBetweenMembers {
        if isInputAtEnd { return [] }
        // Only zeros may follow the last member (tape padding).
        if input[inputOffset] == 0 {
          inputOffset += 1
          continue
        }
        guard inflateReset(stream) == Z_OK else {
          throw ImageError(.corrupt, "gzip: broken stream")
        }
        mode = .gzip(stream, isBetweenMembers: false)
      }
      if isInputAtEnd { throw ImageError(.corrupt, "gzip: the stream ends in the middle") }

      var status: Int32 = Z_OK
      var consumed = 0
      let available = input.count - inputOffset
      let piece = [UInt8](unsafeUninitializedCapacity: Self.pieceBytes) { output, produced in
        input.withUnsafeMutableBytes { bytes in
          stream.pointee.next_in =
            (bytes.baseAddress! + inputOffset).assumingMemoryBound(to: Bytef.self)
          stream.pointee.avail_in = UInt32(available)
          stream.pointee.next_out = output.baseAddress
          stream.pointee.avail_out = UInt32(Self.pieceBytes)
          status = inflate(stream, Z_NO_FLUSH)
          consumed = available - Int(stream.pointee.avail_in)
          produced = Self.pieceBytes - Int(stream.pointee.avail_out)
          stream.pointee.next_in = nil
        }
      }
      inputOffset += consumed
      switch status {
      case Z_STREAM_END: mode = .gzip(stream, isBetweenMembers: true)
      case Z_OK: break
      case Z_BUF_ERROR where consumed > 0 || !piece.isEmpty: break
      default: throw ImageError(.corrupt, "gzip: damaged data")
      }
      if !piece.isEmpty { return piece }
    }
  }
}
