import KubeAPI
import KubeClient
import Synchronization

/// How far a Deployment's pods have come, as a watch tells it.
final class PodCounter: Sendable {
  /// The milestones of a pod.
  enum Milestone: Int, CaseIterable, Sendable {
    case created, bound, running, gone
  }

  private struct State {
    /// How far each pod is, by name.
    var pods: [String: Milestone] = [:]
    var counts = [0, 0, 0, 0]
    var waiters:
      [(milestone: Milestone, count: Int, continuation: CheckedContinuation<Void, Never>)] =
        []
  }
  private let state = Mutex(State())

  func note(_ change: Informer.Change) {
    let pod = PodView(change.object)
    let isGone = if case .deleted = change { true } else { false }
    let due = state.withLock { state in
      let reached: Milestone =
        isGone ? .gone : pod.phase == .running ? .running : pod.nodeName.isEmpty ? .created : .bound
      let known = state.pods[pod.name]
      // A pod that is seen late has passed the milestones before.
      let first = known.map { $0.rawValue + 1 } ?? 0
      if first <= reached.rawValue {
        for passed in first...reached.rawValue { state.counts[passed] += 1 }
      }
      state.pods[pod.name] = reached == .gone ? nil : max(known ?? reached, reached)
      let due = state.waiters.filter { state.counts[$0.milestone.rawValue] >= $0.count }
      state.waiters.removeAll { state.counts[$0.milestone.rawValue] >= $0.count }
      return due
    }
    for waiter in due { waiter.continuation.resume() }
  }

  func count(_ milestone: Milestone) -> Int { state.withLock { $0.counts[milestone.rawValue] } }

  /// Returns when so many pods have reached a milestone.
  func wait(for milestone: Milestone, _ count: Int) async {
    await withCheckedContinuation { continuation in
      let isThere = state.withLock { state in
        if state.counts[milestone.rawValue] >= count { return true }
        state.waiters.append((milestone, count, continuation))
        return false
      }
      if isThere { continuation.resume() }
    }
  }
}

extension PodCounter.Milestone: Comparable {
  static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}
