import KubeClient
import Testing

@Suite("A work queue", .timeLimit(.minutes(1)))
struct WorkQueueTests {
  @Test("holds each key once, in order of arrival")
  func once() async {
    let queue = WorkQueue<String>()
    for key in ["a", "b", "a", "b"] { queue.add(key) }
    #expect(await queue.next() == "a")
    #expect(await queue.next() == "b")
    queue.close()
    #expect(await queue.next() == nil)
  }

  @Test("gives a key that is added during its work out again, but only after the work")
  func again() async {
    let queue = WorkQueue<String>()
    queue.add("a")
    #expect(await queue.next() == "a")
    queue.add("a")
    queue.add("b")
    #expect(await queue.next() == "b", "a is still being worked on")
    queue.done("a")
    #expect(await queue.next() == "a")
    queue.done("a")
    queue.add("c")
    #expect(await queue.next() == "c", "a was wanted once more, not twice")
  }

  @Test("wakes a worker that waits")
  func waiting() async {
    let queue = WorkQueue<Int>()
    async let key = queue.next()
    try? await Task.sleep(for: .milliseconds(10))
    queue.add(7)
    #expect(await key == 7)
  }

  @Test("keeps the earliest of several delays of a key")
  func delays() async {
    let queue = WorkQueue<String>()
    let start = ContinuousClock.now
    queue.add("a", after: .seconds(30))
    queue.add("a", after: .milliseconds(20))
    queue.add("a", after: .seconds(40))
    #expect(await queue.next() == "a")
    #expect(.now - start < .seconds(20))
  }

  @Test("counts failures in a row")
  func failures() async {
    let queue = WorkQueue<String>(firstRetry: .milliseconds(1), lastRetry: .milliseconds(5))
    for expected in 1...3 {
      queue.retry("a")
      #expect(queue.failures(of: "a") == expected)
      #expect(await queue.next() == "a")
      queue.done("a")
    }
    queue.succeeded("a")
    #expect(queue.failures(of: "a") == 0)
  }

  @Test("lets workers go when it is closed")
  func close() async {
    let queue = WorkQueue<Int>()
    async let first = queue.next()
    async let second = queue.next()
    try? await Task.sleep(for: .milliseconds(10))
    queue.close()
    #expect(await first == nil)
    #expect(await second == nil)
    queue.add(1)
    #expect(await queue.next() == nil)
  }
}

@Suite("Backoff")
struct BackoffTests {
  @Test("doubles up to its limit, each time cut by up to a half, and begins anew after a reset")
  func doubling() {
    var backoff = Backoff(first: .milliseconds(100), last: .milliseconds(350))
    for expected in [100, 200, 350, 350] {
      let delay = backoff.next()
      #expect(delay >= .milliseconds(expected) / 2 && delay <= .milliseconds(expected))
    }
    backoff.reset()
    #expect(backoff.next() <= .milliseconds(100))
  }
}
