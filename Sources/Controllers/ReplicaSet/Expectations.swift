import KubeClient
import Synchronization

/// What a controller has done that its cache does not show yet.
///
/// A cache lags behind the API server. A controller that made three pods and looks again before it has
/// heard of them would make three more; so while something is still expected, it only watches.
final class Expectations: Sendable {
  private struct Expected {
    /// Names of objects made, and of objects deleted.
    var made: Set<String> = []
    var deleted: Set<String> = []
    var since: ContinuousClock.Instant
  }

  /// What a cache shows of an object.
  enum Presence { case alive, ending, absent }

  /// After this long what was expected is believed to have happened unseen.
  static let patience = Duration.seconds(30)

  private let expected = Mutex<[ObjectKey: Expected]>([:])

  func expect(_ key: ObjectKey, made: [String] = [], deleted: [String] = []) {
    guard !made.isEmpty || !deleted.isEmpty else { return }
    expected.withLock { all in
      var entry = all[key] ?? Expected(since: .now)
      entry.made.formUnion(made)
      entry.deleted.formUnion(deleted)
      entry.since = .now
      all[key] = entry
    }
  }

  /// Whether everything expected of `key` shows; `presence` tells what the cache holds.
  func areMet(_ key: ObjectKey, presence: (String) -> Presence) -> Bool {
    expected.withLock { all in
      guard var entry = all[key] else { return true }
      entry.made = entry.made.filter { presence($0) == .absent }
      entry.deleted = entry.deleted.filter { presence($0) == .alive }
      let isMet =
        entry.made.isEmpty && entry.deleted.isEmpty || .now - entry.since >= Self.patience
      all[key] = isMet ? nil : entry
      return isMet
    }
  }

  func forget(_ key: ObjectKey) { _ = expected.withLock { $0.removeValue(forKey: key) } }
}
