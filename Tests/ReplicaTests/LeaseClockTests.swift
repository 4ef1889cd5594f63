import Primitives
import Testing

@testable import Replica

@Suite struct LeaseClockTests {
  static let start = Instant(nanoseconds: 1_000_000_000)

  static func seconds(_ count: Int64) -> Instant { start.advanced(by: .seconds(count)) }

  static func running() -> LeaseClock {
    var clock = LeaseClock()
    clock.start([], now: start, grace: .seconds(1))
    return clock
  }

  @Test func aLeaseExpiresWhenItsTimeIsOverAndNotBefore() {
    var clock = LeaseClockTests.running()
    clock.granted(LeaseID(1), seconds: 10, now: LeaseClockTests.start)
    #expect(clock.takeExpired(now: LeaseClockTests.seconds(9), limit: 9, retry: .seconds(1)) == [])
    #expect(
      clock.takeExpired(now: LeaseClockTests.seconds(10), limit: 9, retry: .seconds(1))
        == [LeaseID(1)])
  }

  @Test func aRenewedLeaseGetsItsWholeTimeAgain() {
    var clock = LeaseClockTests.running()
    clock.granted(LeaseID(1), seconds: 10, now: LeaseClockTests.start)
    #expect(
      clock.renew(LeaseID(1), now: LeaseClockTests.seconds(9))
        == LeaseTime(granted: 10, remaining: 10))
    #expect(clock.takeExpired(now: LeaseClockTests.seconds(18), limit: 9, retry: .seconds(1)) == [])
    #expect(
      clock.takeExpired(now: LeaseClockTests.seconds(19), limit: 9, retry: .seconds(1))
        == [LeaseID(1)])
  }

  @Test func anExpiringLeaseCantBeRenewedAndIsOfferedAgain() {
    var clock = LeaseClockTests.running()
    clock.granted(LeaseID(1), seconds: 5, now: LeaseClockTests.start)
    _ = clock.takeExpired(now: LeaseClockTests.seconds(5), limit: 9, retry: .seconds(2))
    #expect(clock.renew(LeaseID(1), now: LeaseClockTests.seconds(5)) == nil)
    #expect(clock.takeExpired(now: LeaseClockTests.seconds(6), limit: 9, retry: .seconds(2)) == [])
    #expect(
      clock.takeExpired(now: LeaseClockTests.seconds(7), limit: 9, retry: .seconds(2))
        == [LeaseID(1)], "its proposal may have been lost")
    clock.revoked(LeaseID(1))
    #expect(clock.takeExpired(now: LeaseClockTests.seconds(60), limit: 9, retry: .seconds(2)) == [])
  }

  @Test func expiryComesInBoundedBatchesInOrderOfDeadlines() {
    var clock = LeaseClockTests.running()
    for id in 1...10 {
      clock.granted(LeaseID(Int64(id)), seconds: Int64(11 - id), now: LeaseClockTests.start)
    }
    let now = LeaseClockTests.seconds(20)
    #expect(
      clock.takeExpired(now: now, limit: 4, retry: .seconds(9)).map(\.rawValue) == [10, 9, 8, 7])
    #expect(
      clock.takeExpired(now: now, limit: 4, retry: .seconds(9)).map(\.rawValue) == [6, 5, 4, 3])
    #expect(clock.takeExpired(now: now, limit: 4, retry: .seconds(9)).map(\.rawValue) == [2, 1])
  }

  @Test func aNewLeaderStartsLeasesAtTheirRemainingTimeAndAGrace() {
    var clock = LeaseClock()
    clock.start(
      [(id: LeaseID(1), granted: 600, remaining: 30)], now: LeaseClockTests.start,
      grace: .seconds(1))
    #expect(
      clock.time(of: LeaseID(1), now: LeaseClockTests.start)
        == LeaseTime(granted: 600, remaining: 31))
    #expect(
      clock.remaining(longerThan: 300, now: LeaseClockTests.seconds(1)).map(\.remaining) == [30])
  }

  @Test func hugeTimesDoNotOverflow() {
    var clock = LeaseClockTests.running()
    clock.granted(LeaseID(1), seconds: 9_000_000_000, now: LeaseClockTests.start)
    #expect(clock.time(of: LeaseID(1), now: LeaseClockTests.start) != nil)
    #expect(clock.takeExpired(now: LeaseClockTests.seconds(60), limit: 9, retry: .seconds(1)) == [])
  }
}
