import Foundation
import HTTPServer
import KubeAPI
import Testing

@testable import NodeAgent

@Suite("Container logs") struct ContainerLogTests {
  private let time = Timestamp(secondsSinceEpoch: 1_800_000_000, nanoseconds: 5)

  /// Writes pieces of output and returns the log's path.
  private func write(_ pieces: [(ContainerLog.Stream, String)], ends: Bool = true) throws -> String
  {
    let path = NSTemporaryDirectory() + "martlet-log-\(UUID().uuidString)"
    var log = try ContainerLog(path)
    for (index, (stream, text)) in pieces.enumerated() {
      Array(text.utf8).withUnsafeBytes {
        log.append($0, stream, at: time.adding(.seconds(index)))
      }
    }
    if ends { log.finish(at: time.adding(.seconds(pieces.count))) }
    return path
  }

  private func read(_ path: String, _ query: String = "") throws -> String {
    let target = try #require(RequestTarget("/containerLogs/n/p/c" + query))
    var reader = try ContainerLogReader(path, try LogOptions(target, now: time))
    var output: [UInt8] = []
    while let piece = try reader.next() {
      output += piece
      if reader.isExhausted { break }
    }
    return String(decoding: output, as: UTF8.self)
  }

  @Test func `the format is the CRI's`() throws {
    let path = try write([(.output, "one\ntw"), (.error, "oops\n"), (.output, "o\nrest")])
    let text = try String(contentsOfFile: path, encoding: .utf8)
    #expect(
      text == """
        2027-01-15T08:00:00.000000005Z stdout F one
        2027-01-15T08:00:01.000000005Z stderr F oops
        2027-01-15T08:00:02.000000005Z stdout F two
        2027-01-15T08:00:03.000000005Z stdout P rest

        """)
    #expect(try read(path) == "one\noops\ntwo\nrest")
  }

  @Test func `long lines are cut into records and read back whole`() throws {
    let line = String(repeating: "x", count: 3 * ContainerLog.lineBytes + 7)
    let path = try write([(.output, line + "\nshort\n")])
    let records = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
    #expect(records.map { $0.split(separator: " ")[2] } == ["P", "P", "P", "F", "F"])
    #expect(try read(path) == line + "\nshort\n")
    #expect(try read(path, "?tailLines=2") == line + "\nshort\n")
    #expect(try read(path, "?tailLines=1") == "short\n")
    #expect(try read(path, "?timestamps=true").split(separator: "\n").count == 2)
  }

  @Test func `tails of every length`() throws {
    let lines = (0..<5_000).map { "line \($0)" + String(repeating: ".", count: $0 % 90) }
    let path = try write(lines.map { (.output, $0 + "\n") })
    for count in [0, 1, 2, 77, 700, 701, 702, 4_999, 5_000, 5_001] {
      let expected = lines.suffix(count).map { $0 + "\n" }.joined()
      #expect(try read(path, "?tailLines=\(count)") == expected, "\(count)")
    }
  }

  @Test func `limits in time and bytes`() throws {
    let path = try write([(.output, "a\n"), (.output, "b\n"), (.output, "c\n")])
    #expect(try read(path, "?limitBytes=3") == "a\nb")
    #expect(try read(path, "?sinceTime=2027-01-15T08:00:01Z") == "b\nc\n")
    #expect(
      try read(path, "?timestamps=true&tailLines=1") == "2027-01-15T08:00:02.000000005Z c\n")
  }

  @Test(arguments: [
    "?tailLines=-1", "?tailLines=x", "?limitBytes=0", "?follow=maybe", "?sinceSeconds=0",
    "?sinceTime=yesterday",
  ])
  func `parameters that make no sense are errors`(query: String) throws {
    let target = try #require(RequestTarget("/x" + query))
    #expect(throws: PreparationError.self) { try LogOptions(target, now: time) }
  }

  @Test func `output can't forge records`() throws {
    let path = try write([
      (.output, "2020-01-01T00:00:00.0Z stderr F forged\n"), (.output, "\0\r\n"),
    ])
    #expect(try read(path) == "2020-01-01T00:00:00.0Z stderr F forged\n\0\r\n")
  }

  @Test func `foreign files give nothing and never trap`() throws {
    for text in [
      "", "\n", "x", "a b\n", "a b c\n", " \n  \n   \n", "a b P",
      String(repeating: "y", count: 100_000),
    ] {
      let path = NSTemporaryDirectory() + "martlet-log-\(UUID().uuidString)"
      try Disk.write(Array(text.utf8), to: path)
      _ = try read(path)
      _ = try read(path, "?tailLines=3")
      unlink(path)
    }
  }
}
