import CLinux
import Glibc
import HTTPServer
import KubeAPI

/// What of a container's log is wanted.
struct LogOptions: Sendable, Equatable {
  var follow = false
  /// The log of the attempt before.
  var previous = false
  var timestamps = false
  var tailLines: Int?
  var since: Timestamp?
  /// Bytes of output; nil for no limit.
  var limitBytes: Int?

  init() {}

  /// Reads the query of a log request.
  ///
  /// - Throws: ``PreparationError`` naming the parameter that makes no sense.
  init(_ target: RequestTarget, now: Timestamp) throws {
    func flag(_ name: String) throws -> Bool {
      switch target.value(of: name) {
      case nil, "false", "0": return false
      case "true", "1", "": return true
      case let text?: throw PreparationError("invalid value \"\(text)\" of \(name)")
      }
    }
    func number(_ name: String, least: Int) throws -> Int? {
      guard let text = target.value(of: name) else { return nil }
      guard let value = Int(text), value >= least else {
        throw PreparationError("invalid value \"\(text)\" of \(name)")
      }
      return value
    }
    follow = try flag("follow")
    previous = try flag("previous")
    timestamps = try flag("timestamps")
    tailLines = try number("tailLines", least: 0)
    limitBytes = try number("limitBytes", least: 1)
    if let seconds = try number("sinceSeconds", least: 1) {
      since = now.adding(.seconds(-min(seconds, Int(Int32.max))))
    } else if let text = target.value(of: "sinceTime") {
      guard let time = try? Timestamp(text) else {
        throw PreparationError("invalid value \"\(text)\" of sinceTime")
      }
      since = time
    }
  }
}

/// Reads a log in the CRI's format (``ContainerLog``) and gives what the container printed.
///
/// A pull parser: the file is read in pieces, each piece gives output. Following is the caller's: at the
/// end of the file it asks again later. Lines that are not in the format are passed over.
struct ContainerLogReader: ~Copyable {
  private var file: Descriptor
  private let path: String
  private let options: LogOptions
  /// Bytes of the file after the last whole record.
  private var rest: [UInt8] = []
  private var bytesLeft: Int
  /// The next record continues a line, so it gets no time of its own.
  private var isInsideLine = false

  static let pieceBytes = 64 << 10
  /// A record longer than this is not ours, and is cut.
  private static let recordBytes = ContainerLog.lineBytes + 128

  init(_ path: String, _ options: LogOptions) throws(SystemError) {
    let file = try Descriptor(opening: path, O_RDONLY | O_NOFOLLOW)
    if let lines = options.tailLines { try Self.seekToTail(lines, of: file) }
    self.file = file
    self.path = path
    self.options = options
    bytesLeft = options.limitBytes ?? .max
  }

  /// Whether the limit on bytes is reached.
  var isExhausted: Bool { bytesLeft <= 0 }

  /// The next piece of output: nil at the present end of the file, possibly empty before.
  mutating func next() throws(SystemError) -> [UInt8]? {
    let piece = try file.read(upTo: Self.pieceBytes)
    if piece.isEmpty {
      // At the end of a file that was put aside, the log goes on in the new one.
      guard let fresh = try? Descriptor(opening: path, O_RDONLY | O_NOFOLLOW),
        !Self.isSame(fresh, file)
      else { return nil }
      // What came between the last look and the change of files is still in the old one.
      let last = try file.read(upTo: Self.pieceBytes)
      if last.isEmpty { file = fresh }
      rest += last
    }
    rest += piece
    var output: [UInt8] = []
    var start = rest.startIndex
    while let end = rest[start...].firstIndex(of: UInt8(ascii: "\n")) {
      append(rest[start..<end], to: &output)
      start = end + 1
    }
    rest.removeSubrange(..<start)
    if rest.count > Self.recordBytes { rest.removeAll() }
    if output.count > bytesLeft { output.removeLast(output.count - bytesLeft) }
    bytesLeft -= output.count
    return output
  }

  private static func isSame(_ a: borrowing Descriptor, _ b: borrowing Descriptor) -> Bool {
    var first = stat()
    var second = stat()
    return fstat(a.number, &first) == 0 && fstat(b.number, &second) == 0
      && first.st_ino == second.st_ino && first.st_dev == second.st_dev
  }

  /// `TIME STREAM TAG TEXT`
  private mutating func append(_ record: ArraySlice<UInt8>, to output: inout [UInt8]) {
    let space = UInt8(ascii: " ")
    guard let first = record.firstIndex(of: space),
      let second = record[(first + 1)...].firstIndex(of: space), second + 2 <= record.endIndex
    else { return }
    let isPartial = record[second + 1] == UInt8(ascii: "P")
    let text = second + 3 <= record.endIndex ? record[(second + 3)...] : []
    if let since = options.since {
      guard let time = try? Timestamp(String(decoding: record[..<first], as: UTF8.self)),
        time >= since
      else { return }
    }
    if options.timestamps, !isInsideLine { output += record[...first] }
    output += text
    if !isPartial { output.append(UInt8(ascii: "\n")) }
    isInsideLine = isPartial
  }

  /// Moves to the beginning of the last `lines` lines, reading backwards; pieces of one long line count
  /// as one.
  private static func seekToTail(
    _ lines: Int, of file: borrowing Descriptor
  ) throws(SystemError) {
    var end = lseek(file.number, 0, SEEK_END)
    guard end > 0 else { return }
    if lines == 0 { return }
    // The offset of each line's first record is found by reading forwards from ever earlier points; logs
    // are read backwards a piece at a time so that a short tail of a long log stays cheap.
    var starts: [off_t] = []
    var carried: [UInt8] = []
    let size = end
    while end > 0, starts.count <= lines {
      let begin = max(0, end - off_t(pieceBytes))
      var piece = [UInt8](repeating: 0, count: Int(end - begin))
      let count = pread(file.number, &piece, piece.count, begin)
      guard count == piece.count else { throw SystemError("read") }
      let bytes = piece + carried
      // Records that begin in this piece: after each newline, and at the file's start.
      var positions: [Int] = begin == 0 ? [0] : []
      for index in bytes.indices.dropLast() where bytes[index] == UInt8(ascii: "\n") {
        positions.append(index + 1)
      }
      for position in positions.reversed() where begin + off_t(position) < size {
        let recordEnd =
          bytes[position...].firstIndex(of: UInt8(ascii: "\n")) ?? bytes.endIndex
        // A whole record ends a line; the partial ones before it belong to it.
        if isWhole(bytes[position..<recordEnd]) || starts.isEmpty {
          starts.append(begin + off_t(position))
        } else {
          starts[starts.count - 1] = begin + off_t(position)
        }
        if starts.count > lines { break }
      }
      carried = Array(bytes[..<(positions.first ?? bytes.count)])
      end = begin
    }
    let target = starts.count >= lines ? starts[lines - 1] : 0
    lseek(file.number, target, SEEK_SET)
  }

  private static func isWhole(_ record: ArraySlice<UInt8>) -> Bool {
    let space = UInt8(ascii: " ")
    guard let first = record.firstIndex(of: space),
      let second = record[(first + 1)...].firstIndex(of: space), second + 1 < record.endIndex
    else { return true }
    return record[second + 1] != UInt8(ascii: "P")
  }
}
