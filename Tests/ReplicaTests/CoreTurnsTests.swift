import Glibc
import Primitives
import Synchronization
import Testing

@testable import Replica

/// Who runs the core: one thread at a time, and nothing is lost between them.
@Suite struct CoreTurnsTests {
  static let never = Instant(nanoseconds: .max / 2)

  @Test func whoComesToAFreeTurnWorksAtOnce() {
    let turns = CoreTurns<Int>(deadline: Self.never)
    var worked: [[Int]] = []
    turns.append(1) { items in
      worked.append(items)
      // What comes during a turn waits for its end.
      turns.append(2) { _ in
        Issue.record("two held the turn")
        return Self.never
      }
      return Self.never
    }
    #expect(worked == [[1]])
    // The turn was handed over with what had come; nobody serves it here.
    turns.append(3) { _ in
      Issue.record("the owner holds the turn")
      return Self.never
    }
    #expect(turns.takeRest() == [2, 3])
  }

  @Test(.timeLimit(.minutes(1))) func theOwnerTakesWhatIsHandedOverAndWhatIsDue() {
    let turns = CoreTurns<Int>(deadline: .origin)
    let seen = Mutex<[[Int]]>([])
    // Which thread works depends on chance; what is worked off, and in which turns, doesn't.
    @Sendable func work(_ items: [Int]) -> Instant {
      seen.withLock { $0.append(items) }
      if items.contains(1) { turns.append(2, work: work) }
      if items.contains(2) { turns.close() }
      return Self.never
    }
    let owner = Thread(named: "owner") { turns.serve(work: work) }
    // The first deadline has passed: the owner works without any item.
    while seen.withLock({ $0.isEmpty }) { sched_yield() }
    turns.append(1, work: work)
    owner.join()
    #expect(seen.withLock { $0 } == [[], [1], [2]])
    #expect(!turns.append(3, work: work))
  }

  /// Many threads add; the items of each come in order, each once, and never two at a time.
  @Test func nothingIsLostOrDoneTwice() {
    let turns = CoreTurns<(source: Int, number: Int)>(deadline: Self.never)
    let count = 20_000
    struct State { var next = [0, 0, 0, 0]; var total = 0; var isWorking = false }
    let state = Mutex(State())
    @Sendable func work(_ items: [(source: Int, number: Int)]) -> Instant {
      state.withLock { state in
        #expect(!state.isWorking)
        state.isWorking = true
      }
      state.withLock { state in
        for item in items {
          #expect(state.next[item.source] == item.number)
          state.next[item.source] += 1
          state.total += 1
        }
        state.isWorking = false
      }
      return MonotonicClock.now.advanced(byNanoseconds: 1_000_000)
    }
    let owner = Thread(named: "owner") { turns.serve(work: work) }
    let sources = (0..<4).map { source in
      Thread(named: "source") {
        for number in 0..<count { turns.append((source, number), work: work) }
      }
    }
    for source in sources { source.join() }
    turns.close()
    owner.join()
    #expect(state.withLock { $0.total } == 4 * count)
  }
}
