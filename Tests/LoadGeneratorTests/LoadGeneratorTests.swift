import EtcdWire
import Foundation
import Histogram
import Testing

@testable import martlet_bench

@Suite("Keys and requests")
struct RequestTests {
  @Test(
    "Keys have the size asked for, end in the number, and sort by it", arguments: [1, 8, 12, 40])
  func keys(size: Int) {
    let keys = KeySpace(keySize: size)
    #expect(keys.key(0).count == size && keys.key(15).count == size)
    #expect(keys.key(9).last == UInt8(ascii: "9") && keys.key(11).last == UInt8(ascii: "b"))
    #expect(keys.key(9).lexicographicallyPrecedes(keys.key(10)))
    #expect(keys.capacity == (size >= 12 ? 1 << 48 : 1 << UInt64(4 * size)))
  }

  @Test("A patched template is the request that it stands for", arguments: ValueKind.allCases)
  func templates(kind: ValueKind) throws {
    let keys = KeySpace(keySize: 200)
    let values = ValueSource(kind: kind, size: 300, seed: 7)
    #expect(values.values.allSatisfy { $0.count == 300 })
    var templates = RequestTemplates(keys: keys, values: values, serializable: true)
    for number in [UInt64(3), 0xABCDEF, 3] {
      try templates.withPut(key: number, variant: 2) { data in
        let put = try PutRequest(#require(GRPCMessage.message(in: data)))
        #expect(Array(put.key) == keys.key(number) && Array(put.value) == values.values[2])
      }
      try templates.withGet(key: number) { data in
        let get = try RangeRequest(#require(GRPCMessage.message(in: data)))
        #expect(Array(get.key) == keys.key(number) && get.serializable && get.rangeEnd.isEmpty)
      }
      try templates.withUpdate(key: number, variant: 1, modRevision: 42) { data in
        let txn = try TxnRequest(#require(GRPCMessage.message(in: data)))
        #expect(txn.check(maximumOperations: 128) == nil)
        #expect(txn.compare.first?.number == 42)
        #expect(txn.success.count == 1 && txn.failure.count == 1)
      }
    }
  }

  @Test("The same seed makes the same values, and another one others")
  func seeds() {
    let first = ValueSource(kind: .random, size: 64, seed: 1).values
    #expect(ValueSource(kind: .random, size: 64, seed: 1).values == first)
    #expect(ValueSource(kind: .random, size: 64, seed: 2).values != first)
  }

  @Test("Only whole messages are messages")
  func framing() {
    let framed = GRPCMessage.framed([1, 2, 3])
    #expect(framed == [0, 0, 0, 0, 3, 1, 2, 3])
    framed.withUnsafeBytes { #expect(GRPCMessage.message(in: $0).map(Array.init) == [1, 2, 3]) }
    for cut in 0..<framed.count {
      framed[..<cut].withUnsafeBytes { #expect(GRPCMessage.message(in: $0) == nil) }
    }
  }
}

@Suite("When requests are due")
struct PacerTests {
  @Test("In a closed loop, whenever there is a place")
  func closedLoop() {
    var pacer = Pacer(rate: nil, origin: 100)
    #expect(pacer.take(now: 7) == 7 && pacer.take(now: 7) == 7)
    #expect(pacer.dueBefore(1_000_000) == 0)
  }

  @Test("With a rate, at fixed instants; late ones count from when they were due")
  func openLoop() {
    // 1,000 a second: every millisecond.
    var pacer = Pacer(rate: 1000, origin: 5_000_000)
    #expect(pacer.take(now: 4_999_999) == nil)
    #expect(pacer.take(now: 5_000_000) == 5_000_000)
    #expect(pacer.take(now: 5_000_001) == nil)
    // The server stalls for 3 ms: all that were due meanwhile are due at once.
    #expect(pacer.take(now: 9_000_000) == 6_000_000)
    #expect(pacer.take(now: 9_000_000) == 7_000_000)
    #expect(pacer.nextDue == 8_000_000)
    #expect(pacer.dueBefore(10_000_000) == 2)
  }
}

@Suite("What was observed")
struct RecorderTests {
  @Test("Recorders add up, and the recent part is taken once")
  func adding() {
    var first = Recorder()
    var second = Recorder()
    first.record(nanoseconds: 1000)
    first.record(error: "gone")
    second.record(nanoseconds: 3000)
    second.record(error: "gone")
    second.recordMiss()
    second.recordConflict()
    #expect(second.takeRecent().totalCount == 1 && second.takeRecent().totalCount == 0)
    first.add(second)
    #expect(first.completed == 2 && first.failed == 2 && first.errors == ["gone": 2])
    #expect(first.misses == 1 && first.conflicts == 1)
  }

  @Test("Errors are told apart up to a bound")
  func errorKinds() {
    var recorder = Recorder()
    for number in 0..<100 { recorder.record(error: "error \(number)") }
    #expect(recorder.failed == 100 && recorder.errors.count == Recorder.maximumErrorKinds + 1)
  }
}

@Suite("The record of acknowledged puts")
struct AcknowledgementLogTests {
  @Test("It is read as written; of a key's puts the last counts; a torn end is left out")
  func roundTrip() throws {
    let path = NSTemporaryDirectory() + "acknowledgements-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: path) }
    let header = AcknowledgementHeader(keySize: 24, valueSize: 8, values: .json, seed: 3)
    let log = try AcknowledgementLog(path: path, header: header)
    for (key, variant) in [(5, 1), (2, 2), (5, 3)] {
      log.append(Acknowledgement(key: UInt64(key), variant: UInt32(variant)))
    }
    log.flush()
    let handle = try #require(FileHandle(forWritingAtPath: path))
    try handle.seekToEnd()
    handle.write(Data([9, 9, 9]))
    try handle.close()

    let read = try AcknowledgementLog.read(path: path)
    #expect(read.header.keySize == 24 && read.header.values == .json && read.header.seed == 3)
    #expect(
      read.acknowledgements == [
        Acknowledgement(key: 2, variant: 2), Acknowledgement(key: 5, variant: 3),
      ])
  }

  @Test("Endpoints are a host and a port")
  func endpoints() {
    #expect(Endpoint(argument: "http://[::1]:2379")?.authority == "[::1]:2379")
    #expect(Endpoint(argument: "[::1]:2379") == Endpoint(host: "::1", port: 2379))
    #expect(Endpoint(argument: "localhost:1") == Endpoint(host: "localhost", port: 1))
    for wrong in ["", "localhost", ":2379", "a:0", "a:65536", "a:b"] {
      #expect(Endpoint(argument: wrong) == nil)
    }
  }
}
