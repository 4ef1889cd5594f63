import KubeAPI
import KubeClient
import Logging

/// Removes pods that nobody else will: those of nodes that are gone, those that were deleted before they had
/// a node, and the oldest of very many that have ended. Source: Kubernetes, "Garbage collection of Pods".
struct PodGarbageController: Sendable {
  private let context: ControllerContext

  enum Limits {
    /// How often it looks.
    static let interval = Duration.seconds(20)
    /// Ended pods that stay. Source: `--terminated-pod-gc-threshold`.
    static let endedPods = 12_500
    /// Looks at which a node must be missing: one that is only just registering isn't gone.
    static let looksWithoutNode = 3
  }

  init(_ context: ControllerContext) { self.context = context }

  func run() async {
    var missing: [String: Int] = [:]
    while !Task.isCancelled {
      try? await Task.sleep(for: Limits.interval)
      if Task.isCancelled { return }
      let nodes = Set(context.nodes.list().map { AnyObjectView($0).name })
      let pods = context.pods.list().map(PodView.init)
      let absent = Set(pods.map(\.nodeName)).subtracting(nodes).subtracting([""])
      missing = missing.filter { absent.contains($0.key) }
      for node in absent { missing[node, default: 0] += 1 }
      let gone = Set(missing.filter { $0.value >= Limits.looksWithoutNode }.keys)
      for pod in Self.garbage(pods, lostNodes: gone, keeping: Limits.endedPods) {
        do {
          try await context.client.delete(
            .pods, namespace: pod.namespace, name: pod.name, uid: pod.uid, graceSeconds: 0)
        } catch {
          context.log.debug("a pod couldn't be collected", metadata: ["error": "\(error)"])
        }
      }
    }
  }

  /// The pods to remove.
  static func garbage(_ pods: [PodView], lostNodes: Set<String>, keeping: Int) -> [PodView] {
    var garbage = pods.filter { pod in
      lostNodes.contains(pod.nodeName) || pod.isBeingDeleted && pod.nodeName.isEmpty
    }
    let ended = pods.filter { $0.isFinished && !lostNodes.contains($0.nodeName) }
    if ended.count > keeping {
      garbage += ended.sorted {
        ($0.creationTime ?? .distantPast, $0.name) < ($1.creationTime ?? .distantPast, $1.name)
      }.prefix(ended.count - keeping)
    }
    return garbage
  }
}
