import Testing

@testable import KubeClient

@Suite("The correlation of events")
struct EventCorrelatorTests {
  private func subject(_ message: String, uid: String = "1") -> EventCorrelator.Subject {
    EventCorrelator.Subject(
      component: "test", uid: uid, field: "", kind: "Normal", reason: "Created", message: message)
  }

  /// Judges as the recorder does, which notes what it has written.
  private func tell(
    _ subject: EventCorrelator.Subject, to correlator: inout EventCorrelator,
    at now: ContinuousClock.Instant
  ) -> EventCorrelator.Outcome {
    let (outcome, told) = correlator.judge(subject, now: now)
    switch outcome {
    case .create: correlator.note(told, name: "event-\(told.message)", count: 1)
    case .raise(let name, let count, _): correlator.note(told, name: name, count: count)
    case .drop: break
    }
    return outcome
  }

  @Test("The same thing said again raises the count")
  func repetition() {
    var correlator = EventCorrelator()
    let now = ContinuousClock.now
    #expect(tell(subject("a"), to: &correlator, at: now) == .create(message: "a"))
    #expect(
      tell(subject("a"), to: &correlator, at: now)
        == .raise(name: "event-a", count: 2, message: "a"))
    #expect(tell(subject("b"), to: &correlator, at: now) == .create(message: "b"))
    #expect(tell(subject("a", uid: "2"), to: &correlator, at: now) == .create(message: "a"))
  }

  @Test("From the tenth message on, similar events are told as one")
  func aggregation() {
    var correlator = EventCorrelator()
    let now = ContinuousClock.now
    for number in 1...9 {
      #expect(
        tell(subject("pod \(number)"), to: &correlator, at: now)
          == .create(message: "pod \(number)"))
    }
    #expect(
      tell(subject("pod 10"), to: &correlator, at: now)
        == .create(message: "(combined from similar events): pod 10"))
    #expect(
      tell(subject("pod 11"), to: &correlator, at: now)
        == .raise(name: "event-", count: 2, message: "(combined from similar events): pod 11"))
    let later = now + EventCorrelator.Limits.similarInterval + .seconds(1)
    #expect(
      tell(subject("pod 12"), to: &correlator, at: later) == .create(message: "pod 12"),
      "they had stopped coming")
  }

  @Test("One source writes 25 events about one object, and another one every five minutes")
  func spam() {
    var correlator = EventCorrelator()
    let now = ContinuousClock.now
    let written = (1...100).count { number in
      tell(subject("\(number)"), to: &correlator, at: now) != .drop
    }
    #expect(written == 25)
    #expect(tell(subject("x", uid: "other"), to: &correlator, at: now) == .create(message: "x"))
    #expect(tell(subject("y"), to: &correlator, at: now + .seconds(299)) == .drop)
    #expect(tell(subject("y"), to: &correlator, at: now + .seconds(301)) != .drop)
    #expect(tell(subject("y"), to: &correlator, at: now + .seconds(302)) == .drop)
  }
}
