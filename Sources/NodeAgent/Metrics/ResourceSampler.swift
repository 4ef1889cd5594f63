import KubeAPI

/// Looks at what pods and the node use, from time to time, so that rates can be told.
///
/// ``sample()`` is called at a fixed interval; what is asked for in between is the last sample. One more sample
/// in between would make the rate one over a moment.
actor ResourceSampler {
  /// A sample, and the CPU that was used on average since the one before, in billionths of one CPU.
  struct Sample: Sendable, Equatable {
    var usage: ResourceUsage
    /// Nil at the first look.
    var cpuNanoCores: UInt64?
    /// The time between the two looks.
    var window: Duration?
  }

  /// One container that runs.
  struct Container: Sendable {
    var name: String
    var startedAt: Timestamp
    var sample: Sample
  }

  /// One pod with what its containers use, those that have ended left out.
  struct Pod: Sendable {
    var name: String
    var namespace: String
    var uid: String
    var startedAt: Timestamp
    var containers: [Container]
    var sample: Sample?
  }

  struct Snapshot: Sendable {
    var node: Sample?
    var pods: [Pod] = []
  }

  private let runtime: any ContainerRuntime
  private let now: @Sendable () -> Timestamp
  private(set) var last = Snapshot()
  private var before: [String: ResourceUsage] = [:]

  init(
    runtime: any ContainerRuntime, now: @escaping @Sendable () -> Timestamp = { .wallClock() }
  ) {
    self.runtime = runtime
    self.now = now
  }

  func run(every interval: Duration) async {
    while !Task.isCancelled {
      await sample()
      try? await Task.sleep(for: interval)
    }
  }

  func sample() async {
    var usages: [String: ResourceUsage] = [:]
    func sample(_ key: String, _ usage: ResourceUsage?) -> Sample? {
      guard let usage else { return nil }
      usages[key] = usage
      let old = before[key]
      return Sample(
        usage: usage, cpuNanoCores: old.flatMap { Self.rate(from: $0, to: usage) },
        window: old.map { usage.time.since($0.time) })
    }
    var snapshot = Snapshot(node: sample("/", Machine.usage(now: now())))
    let sandboxes = runtime.pods().filter(\.isReady)
    let known = await runtime.usage(of: sandboxes, now: now())
    for sandbox in sandboxes {
      var pod = Pod(
        name: sandbox.podName, namespace: sandbox.podNamespace, uid: sandbox.podUID,
        startedAt: sandbox.createdAt, containers: [],
        sample: sample(sandbox.id.rawValue, known.sandboxes[sandbox.id]))
      for container in sandbox.containers {
        guard case .running(let since) = container.state,
          let sample = sample(container.id.rawValue, known.containers[container.id])
        else { continue }
        pod.containers.append(
          Container(name: container.name, startedAt: since, sample: sample))
      }
      snapshot.pods.append(pod)
    }
    before = usages
    last = snapshot
  }

  /// CPU between two samples, in billionths of a CPU; nil where no time has passed between them.
  static func rate(from old: ResourceUsage, to new: ResourceUsage) -> UInt64? {
    let (seconds, attoseconds) = new.time.since(old.time).components
    let nanoseconds = Double(seconds) * 1e9 + Double(attoseconds) / 1e9
    guard nanoseconds > 0, new.cpuNanoseconds >= old.cpuNanoseconds else { return nil }
    return UInt64(Double(new.cpuNanoseconds - old.cpuNanoseconds) / nanoseconds * 1e9)
  }
}

/// What all sandboxes and containers have used.
public struct RuntimeUsage: Sendable {
  public var sandboxes: [SandboxID: ResourceUsage] = [:]
  public var containers: [ContainerID: ResourceUsage] = [:]
  public init() {}
}
