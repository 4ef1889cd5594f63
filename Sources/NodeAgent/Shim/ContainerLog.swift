import Glibc
import KubeAPI

/// Writes what a container prints, in the CRI's log format:
///
/// ```
/// 2026-11-23T15:44:18.123456789Z stdout F a whole line
/// 2026-11-23T15:44:18.223456789Z stderr P the beginning of a long line, or one not ended at exit
/// ```
///
/// Lines are cut at ``lineBytes``: all pieces but the last carry `P`. Nothing that a container prints can
/// forge another line's time or stream, because only a newline starts a record and each record starts
/// with our own prefix.
struct ContainerLog: ~Copyable {
  enum Stream: Int {
    case output, error
    fileprivate var tag: StaticString { self == .output ? " stdout " : " stderr " }
  }

  /// The longest piece of a line in one record, as in other CRI runtimes.
  static let lineBytes = 16 << 10

  private let file: Descriptor
  private var times = Timestamp.SecondPrefix()
  /// Of each stream, what came since its last newline.
  private var partial: [[UInt8]] = [[], []]
  /// How many records were lost because the file could not be written, for instance on a full disk.
  private(set) var lostRecords = 0

  init(_ path: String) throws(SystemError) {
    file = try Descriptor(
      opening: path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, mode: 0o640)
  }

  /// Takes what one read from the container gave, and writes the lines it completes in one call.
  mutating func append(_ bytes: UnsafeRawBufferPointer, _ stream: Stream, at time: Timestamp) {
    var records: [UInt8] = []
    records.reserveCapacity(bytes.count + 128)
    var count = 0
    var start = 0
    let newline = UInt8(ascii: "\n")
    while start < bytes.count {
      let end = bytes[start...].firstIndex(of: newline)
      let piece = UnsafeRawBufferPointer(rebasing: bytes[start..<(end ?? bytes.count)])
      var offset = 0
      while partial[stream.rawValue].count + piece.count - offset > Self.lineBytes {
        let room = Self.lineBytes - partial[stream.rawValue].count
        record(
          &records, partial[stream.rawValue], piece[offset..<offset + room], stream, isWhole: false,
          time)
        count += 1
        partial[stream.rawValue].removeAll(keepingCapacity: true)
        offset += room
      }
      if let end {
        record(
          &records, partial[stream.rawValue], piece[offset...], stream, isWhole: true, time)
        count += 1
        partial[stream.rawValue].removeAll(keepingCapacity: true)
        start = end + 1
      } else {
        partial[stream.rawValue] += piece[offset...]
        start = bytes.count
      }
    }
    write(records, count)
  }

  /// Writes lines that never ended.
  mutating func finish(at time: Timestamp) {
    for stream in [Stream.output, .error] where !partial[stream.rawValue].isEmpty {
      var records: [UInt8] = []
      record(
        &records, partial[stream.rawValue], UnsafeRawBufferPointer(start: nil, count: 0)[...],
        stream,
        isWhole: false, time)
      partial[stream.rawValue] = []
      write(records, 1)
    }
  }

  private mutating func write(_ records: [UInt8], _ count: Int) {
    if records.isEmpty { return }
    // A container must not stop because its log can't be kept.
    do { try file.writeAll(records) } catch { lostRecords += count }
  }

  private mutating func record(
    _ records: inout [UInt8], _ first: [UInt8], _ second: Slice<UnsafeRawBufferPointer>,
    _ stream: Stream, isWhole: Bool, _ time: Timestamp
  ) {
    times.append(time, to: &records)
    stream.tag.withUTF8Buffer { records += $0 }
    records.append(UInt8(ascii: isWhole ? "F" : "P"))
    records.append(UInt8(ascii: " "))
    records += first
    records += second
    records.append(UInt8(ascii: "\n"))
  }
}
