import KubeAPI

/// Decides what becomes of an event: a new object, a higher count of one that there is, or nothing.
///
/// The rules are those of Kubernetes' own clients, so that an object that fails a thousand times is told of without a
/// thousand writes:
///
/// - The same thing said again raises the first event's count.
/// - More than `similarEvents` events of one object that differ in their message alone are told as one,
///   `(combined from similar events): …`, while they keep coming.
/// - One source may write `burst` events about one object, and one more each `refill`.
///
/// Source: Kubernetes, client-go's package `tools/record`, "EventCorrelator".
struct EventCorrelator: Sendable {
  enum Limits {
    static let burst = 25.0
    static let refill = Duration.seconds(300)
    static let similarEvents = 10
    static let similarInterval = Duration.seconds(600)
    /// Objects and events remembered; the older half is forgotten when there are more.
    static let remembered = 4_096
  }

  /// What tells events apart.
  struct Subject: Hashable, Sendable {
    var component: String
    var uid: String
    var field: String
    var kind: String
    var reason: String
    var message: String
  }

  enum Outcome: Equatable, Sendable {
    case create(message: String)
    case raise(name: String, count: Int, message: String)
    case drop
  }

  private struct Written: Sendable {
    var name: String
    var count: Int
  }
  /// Everything but the message, or the source and the object alone.
  private struct Group: Hashable, Sendable {
    var component: String
    var uid: String
    var field = ""
    var kind = ""
    var reason = ""
  }
  private struct Similar: Sendable {
    var messages: Set<String> = []
    var last: ContinuousClock.Instant
  }
  private struct Bucket: Sendable {
    var tokens: Double
    var at: ContinuousClock.Instant
  }

  private var written = Remembered<Subject, Written>()
  private var similar = Remembered<Group, Similar>()
  private var buckets = Remembered<Group, Bucket>()

  /// What to do about an event, and the subject under which `note` is told how it was written.
  mutating func judge(
    _ subject: Subject, now: ContinuousClock.Instant
  ) -> (outcome: Outcome, as: Subject) {
    let told = aggregate(subject, now)
    guard takeToken(subject, now) else { return (.drop, told) }
    let message =
      told == subject ? subject.message : "(combined from similar events): \(subject.message)"
    guard let known = written[told] else { return (.create(message: message), told) }
    return (.raise(name: known.name, count: known.count + 1, message: message), told)
  }

  /// An event is in the API, with this count.
  mutating func note(_ subject: Subject, name: String, count: Int) {
    written[subject] = Written(name: name, count: count)
  }

  /// An event is gone from the API.
  mutating func forget(_ subject: Subject) { written[subject] = nil }

  /// The subject itself, or that of all that are like it. What it says then changes from time to time.
  private mutating func aggregate(_ subject: Subject, _ now: ContinuousClock.Instant) -> Subject {
    let group = Group(
      component: subject.component, uid: subject.uid, field: subject.field, kind: subject.kind,
      reason: subject.reason)
    var known = similar[group] ?? Similar(last: now)
    if now - known.last > Limits.similarInterval { known.messages = [] }
    known.last = now
    known.messages.insert(subject.message)
    defer { similar[group] = known }
    guard known.messages.count >= Limits.similarEvents else { return subject }
    // Bounded: which ones there were no longer matters.
    known.messages.remove(subject.message)
    var combined = subject
    combined.message = ""
    return combined
  }

  private mutating func takeToken(_ subject: Subject, _ now: ContinuousClock.Instant) -> Bool {
    let group = Group(component: subject.component, uid: subject.uid)
    var bucket = buckets[group] ?? Bucket(tokens: Limits.burst, at: now)
    bucket.tokens = min(Limits.burst, bucket.tokens + (now - bucket.at) / Limits.refill)
    bucket.at = now
    defer { buckets[group] = bucket }
    guard bucket.tokens >= 1 else { return false }
    bucket.tokens -= 1
    return true
  }
}

/// A dictionary that forgets its older half when it has grown too large.
private struct Remembered<Key: Hashable & Sendable, Item: Sendable>: Sendable {
  private var items: [Key: Item] = [:]
  private var order: [Key] = []

  subscript(key: Key) -> Item? {
    get { items[key] }
    set {
      guard let newValue else {
        items[key] = nil
        return
      }
      if items.updateValue(newValue, forKey: key) == nil { order.append(key) }
      guard order.count > EventCorrelator.Limits.remembered else { return }
      let half = EventCorrelator.Limits.remembered / 2
      for old in order.prefix(half) { items[old] = nil }
      order.removeFirst(half)
    }
  }
}
