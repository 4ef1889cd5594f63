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

  /// A log that has grown this large becomes an old one; so many old ones are kept (Kubernetes' defaults:
  /// 10 MiB, 5 files with the current one).
  static let fileBytes = 10 << 20
  static let oldFiles = 4

  private var file: Descriptor
  private let path: String
  private var size: Int
  private var times = Timestamp.SecondPrefix()
  /// Of each stream, what came since its last newline.
  private var partial: [[UInt8]] = [[], []]
  /// How many records were lost because the file could not be written, for instance on a full disk.
  private(set) var lostRecords = 0

  init(_ path: String) throws(SystemError) {
    file = try Self.open(path)
    self.path = path
    size = max(0, Int(lseek(file.number, 0, SEEK_END)))
  }

  private static func open(_ path: String) throws(SystemError) -> Descriptor {
    try Descriptor(opening: path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, mode: 0o640)
  }

  /// Puts the present file aside under the moment's name and begins a new one. If that fails, the old one
  /// just grows on.
  private mutating func rotate(at time: Timestamp) {
    let digits = time.nanosecondText.filter(\.isNumber)
    guard rename(path, "\(path).\(digits)") == 0, let fresh = try? Self.open(path) else { return }
    file = fresh
    size = 0
    for old in Self.oldFiles(of: path).dropLast(Self.oldFiles) { unlink(old) }
  }

  /// The files that were put aside, oldest first.
  static func oldFiles(of path: String) -> [String] {
    guard let slash = path.lastIndex(of: "/") else { return [] }
    let directory = String(path[..<slash])
    let prefix = path[path.index(after: slash)...] + "."
    return Disk.names(in: directory).filter { $0.hasPrefix(prefix) }.sorted()
      .map { "\(directory)/\($0)" }
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
    if size >= Self.fileBytes { rotate(at: time) }
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
    do {
      try file.writeAll(records)
      size += records.count
    } catch {
      lostRecords += count
    }
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
