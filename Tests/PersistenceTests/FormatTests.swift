import Persistence
import Primitives
import Raft
import SimulatedStorage
import TestKit
import Testing

/// The formats byte by byte, against files that must never change by accident.
@Suite struct FormatTests {
  @Test func theLogsBytes() throws {
    var harness = try LogHarness(
      settings: LogSettings(segmentBytes: 1024, compressionThreshold: 500))
    try GoldenRunner().run("Log.txt") { command in
      switch command.name {
      case "append":
        let first = try #require(command.integer("first"))
        let count = try #require(command.integer("count"))
        let term = try #require(command.integer("term"))
        let bytes = try #require(command.integer("bytes"))
        let entries = makeEntries(
          UInt64(first), count: count, term: UInt64(term), bytes: bytes)
        let hardState = HardState(
          term: Term(UInt64(term)), vote: NodeID(0xB), commit: LogIndex(UInt64(first)))
        try harness.append(entries, hardState: hardState)
        return
          "log \(harness.log.firstIndex)...\(harness.log.lastIndex), \(harness.segments.count) segments"
      case "restart":
        let job = harness.log.restart(
          after: LogIndex(UInt64(try #require(command.integer("after")))), term: Term(5),
          hardState: HardState(term: Term(5), vote: nil, commit: LogIndex(9)))
        try harness.log.completed(job.perform(on: harness.disk))
        return
          "log \(harness.log.firstIndex)...\(harness.log.lastIndex), \(harness.segments.count) segments"
      case "dump":
        let segment = harness.segments[try #require(command.integer("segment"))]
        return hexDump(harness.disk.contents(of: segment) ?? [])
      default:
        return "unknown command"
      }
    }
  }

  @Test func aSnapshotsBytes() throws {
    let disk = try SampleSnapshot.makeDisk()
    try GoldenRunner().run("Snapshot.txt") { command in
      switch command.name {
      case "write":
        let file = try SampleSnapshot().write(on: disk)
        return "\(file.path), \(file.bytes) bytes"
      case "sections":
        let reader = try SnapshotReader(path: disk.paths[0], clusterID: nil, fileSystem: disk)
        return reader.sections.map {
          "\($0.id) \($0.name): \($0.storedBytes) bytes at \($0.offset) hold \($0.contentBytes)"
        }.joined(separator: "\n")
      case "dump":
        return hexDump(disk.contents(of: disk.paths[0]) ?? [])
      default:
        return "unknown command"
      }
    }
  }
}

/// Sixteen bytes a line, equal lines folded into one star.
func hexDump(_ bytes: [UInt8]) -> String {
  var lines: [String] = []
  var previous: ArraySlice<UInt8> = []
  for start in stride(from: 0, to: bytes.count, by: 16) {
    let line = bytes[start..<min(start + 16, bytes.count)]
    if line == previous, start + 16 < bytes.count {
      if lines.last != "*" { lines.append("*") }
      continue
    }
    previous = line
    func digits(_ value: Int, _ count: Int) -> String {
      let text = String(value, radix: 16)
      return String(repeating: "0", count: max(0, count - text.count)) + text
    }
    let text = line.map { $0 >= 0x20 && $0 < 0x7F ? Character(Unicode.Scalar($0)) : "." }
    let hex = line.map { digits(Int($0), 2) }.joined(separator: " ")
    lines.append(
      "\(digits(start, 4))  \(hex)" + String(repeating: " ", count: 49 - hex.count)
        + "|\(String(text))|")
  }
  return lines.joined(separator: "\n")
}
