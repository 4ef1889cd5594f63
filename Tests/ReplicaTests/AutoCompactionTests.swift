import Primitives
import Testing

@testable import Replica

@Suite struct AutoCompactionTests {
  private func run(
    _ mode: AutoCompaction.Mode, seconds: Int, every step: Int = 1, _ revision: (Int) -> Int64
  ) -> [Int: Int64] {
    var compaction = AutoCompaction(mode)
    var done: [Int: Int64] = [:]
    for second in stride(from: 0, through: seconds, by: step) {
      let now = Instant.origin.advanced(by: .seconds(second))
      if let target = compaction.tick(now, revision: revision(second)) { done[second] = target }
    }
    return done
  }

  /// One revision a second: what is a minute old goes, once a minute. (Revision 1 is nothing to go.)
  @Test func byTime() {
    let done = run(.periodic(.seconds(60)), seconds: 240) { Int64($0 + 1) }
    #expect(done == [120: 61, 180: 121, 240: 181])
  }

  /// A day's history is kept, and looked at once an hour.
  @Test func byALongTime() {
    let done = run(.periodic(.seconds(86_400)), seconds: 100_000, every: 60) { Int64($0 + 1) }
    #expect(done.keys.sorted() == [90_000, 93_600, 97_200])
    #expect(done[93_600] == Int64(7_201))
  }

  @Test func byRevisions() {
    let done = run(.revision(1_000), seconds: 1_000) { Int64($0 * 10 + 1) }
    #expect(done == [300: 2_001, 600: 5_001, 900: 8_001])
  }

  @Test func nothingNewIsNotCompactedAgain() {
    #expect(run(.revision(10), seconds: 1_000) { _ in 100 } == [300: 90])
    #expect(run(.revision(200), seconds: 1_000) { _ in 100 }.isEmpty)
  }
}
