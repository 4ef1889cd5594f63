import KubeClient
import Synchronization

/// How long to gather changes before an object is looked at again: some times what the last look took, so that one
/// object that changes all the time takes a part of a core and no more.
final class Pace: Sendable {
  enum Limits {
    /// Looking takes at most one part in this many.
    static let share = 5
    /// However much there is to look at, changes wait no longer.
    static let longest = Duration.milliseconds(100)
    /// A look that took less is not worth a pause.
    static let shortest = Duration.milliseconds(1)
  }

  private let pauses = Mutex<[ObjectKey: Duration]>([:])

  func pause(of key: ObjectKey) -> Duration { pauses.withLock { $0[key] ?? .zero } }

  /// Takes the time of a look.
  func measure<Result>(_ key: ObjectKey, _ look: () -> Result) -> Result {
    let start = ContinuousClock.now
    let result = look()
    let pause = min((ContinuousClock.now - start) * (Limits.share - 1), Limits.longest)
    pauses.withLock { $0[key] = pause < Limits.shortest ? nil : pause }
    return result
  }

  func forget(_ key: ObjectKey) { _ = pauses.withLock { $0.removeValue(forKey: key) } }
}
