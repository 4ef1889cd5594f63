import MVCC
import Primitives
import Testing

@Suite struct CommandBatchTests {
  @Test("A batch reads as it was written")
  func roundTrip() throws {
    let body: [UInt8] = [1, 2, 3]
    let user: [UInt8] = [9]
    var commands: [UInt8] = []
    try body.withUnsafeBytes { body in
      try user.withUnsafeBytes { user in
        CommandBatch.append(.put, body: body, to: &commands)
        CommandBatch.append(
          .leaseGrant, extra: user, authorization: .init(revision: 5, user: user), body: body,
          to: &commands)
        let payload = batch(commands, count: 2)
        try payload.withUnsafeBytes { payload in
          var reader = try CommandBatchReader(payload)
          #expect(reader.header.proposer == NodeID(7))
          #expect(reader.header.count == 2)
          let first = try #require(try reader.next())
          #expect(first.kind == .put)
          #expect(Array(first.body) == [1, 2, 3])
          #expect(first.authorization == nil)
          let second = try #require(try reader.next())
          #expect(Array(second.extra) == [9])
          #expect(second.authorization?.revision == 5)
          #expect(second.authorization.map { Array($0.user) } == [9])
          #expect(Array(second.body) == [1, 2, 3])
          let end = try reader.next()
          #expect(end == nil)
        }
      }
    }
  }

  @Test("The layout is the one that is written down")
  func layout() {
    var commands: [UInt8] = []
    [0xAA as UInt8].withUnsafeBytes { CommandBatch.append(.put, body: $0, to: &commands) }
    let header: [UInt8] =
      [1, 0, 0, 0, 1, 0, 0, 0] + [7, 0, 0, 0, 0, 0, 0, 0] + [1, 0, 0, 0, 0, 0, 0, 0]
    #expect(batch(commands, count: 1) == header + [9, 0, 0, 0, 1, 0, 0, 0, 0xAA])
  }

  @Test("Every shortened or lengthened batch is refused")
  func damaged() {
    var commands: [UInt8] = []
    [0xAA as UInt8].withUnsafeBytes { CommandBatch.append(.put, body: $0, to: &commands) }
    let payload = batch(commands, count: 1)
    func isValid(_ bytes: [UInt8]) -> Bool {
      bytes.withUnsafeBytes { bytes in
        guard var reader = try? CommandBatchReader(bytes) else { return false }
        do {
          while try reader.next() != nil {}
          return true
        } catch { return false }
      }
    }
    #expect(isValid(payload))
    for length in payload.indices { #expect(!isValid(Array(payload[..<length]))) }
    #expect(!isValid(payload + [0]))
    for place in [0, 1, 2, 3, 29] {
      var other = payload
      other[place] = 0x77
      #expect(!isValid(other))
    }
  }
}
