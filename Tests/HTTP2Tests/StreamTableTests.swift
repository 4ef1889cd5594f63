import Primitives
import Testing

@testable import HTTP2

@Suite struct StreamTableTests {
  @Test("The table equals a dictionary, whatever comes and goes", arguments: 0..<10)
  func model(seed: UInt64) {
    var random = RandomSource(seed: seed)
    var table = StreamTable()
    var model: [UInt32: UInt64] = [:]
    var next: UInt32 = 1
    for _ in 0..<20_000 {
      if random.oneIn(2) {
        var stream = HTTP2Stream(id: next, sendWindow: 0, receiveWindow: 0)
        stream.tag = random.next()
        model[next] = stream.tag
        _ = table.insert(stream)
        next += 2
      } else if let id = model.keys.min(), !random.oneIn(4) {
        // Mostly the oldest ends first, but long-lived ones stay.
        model[id] = nil
        table.remove(id)
      } else if let id = model.keys.max() {
        model[id] = nil
        table.remove(id)
      }
      if random.oneIn(100) {
        #expect(table.count == model.count)
        #expect(table.ids == model.keys.sorted())
        for (id, tag) in model { #expect(table.slots[table.find(id)].tag == tag) }
        #expect(table.find(next) == -1)
      }
    }
  }
}
