import KubeAPI
import Logging

/// Lets one of several replicas of a component work, and the next when that one is gone.
///
/// The right to work is a Lease object. Its holder renews it; the others watch the clock *of their own*
/// since they last saw it change, so clocks need not agree. A holder that can't renew in time stops before
/// anybody else starts. Source: Kubernetes, "Leases", and the defaults of its components.
public struct LeaderElection: Sendable {
  /// The lease and its times; the defaults are those of Kubernetes' components.
  public struct Settings: Sendable, Equatable {
    /// False: no lease; the work begins at once. For components that surely run once.
    public var isEnabled = true
    public var namespace = "kube-system"
    public var name: String
    /// How long the others wait after they last saw the holder renew.
    public var leaseDuration = Duration.seconds(15)
    /// How long the holder tries to renew before it stops its work.
    public var renewDeadline = Duration.seconds(10)
    /// Between two attempts to take or renew the lease.
    public var retryPeriod = Duration.seconds(2)

    public init(name: String) { self.name = name }

    /// What is wrong with the times, in Kubernetes' words; nil if nothing is.
    public var problem: String? {
      if leaseDuration <= renewDeadline {
        return "leaseDuration must be greater than renewDeadline"
      }
      if retryPeriod <= .zero { return "retryPeriod must be greater than zero" }
      // The pause may be stretched by this, where Kubernetes' is.
      if renewDeadline <= retryPeriod * 1.2 {
        return "renewDeadline must be greater than retryPeriod*JitterFactor"
      }
      return nil
    }
  }

  private let settings: Settings
  /// Who this replica is: unlike any other, this process's earlier lives included.
  private let identity: String
  private let client: APIClient
  private let log: Logger

  private var name: String { settings.name }
  private var namespace: String { settings.namespace }

  public init(_ settings: Settings, identity: String, client: APIClient, log: Logger) {
    self.settings = settings
    self.identity = identity
    self.client = client
    self.log = log
  }

  /// Waits until this replica leads, then runs `work`, which is cancelled when leadership is lost.
  ///
  /// Returns when `work` has ended; the caller may run again. On cancellation the lease is given up, so that
  /// the next replica needn't wait for its end.
  public func run(_ work: @escaping @Sendable () async -> Void) async {
    guard settings.isEnabled else { return await work() }
    let clock = ContinuousClock()
    var seen: (version: String, at: ContinuousClock.Instant)?
    // A server that is about to start is asked more often at first.
    var backoff = Backoff(first: .milliseconds(50), last: settings.retryPeriod)
    while !Task.isCancelled {
      let outcome = await acquire(&seen, clock)
      if outcome == .held { break }
      try? await Task.sleep(for: outcome == .failed ? backoff.next() : settings.retryPeriod)
    }
    if Task.isCancelled { return }
    log.info("leading", metadata: ["lease": "\(name)", "identity": "\(identity)"])
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await work() }
      group.addTask { await self.keepRenewing(clock) }
      await group.next()
      group.cancelAll()
    }
    // This task may be cancelled, and giving up the lease must happen all the same.
    await Task { _ = await within(.seconds(3)) { await release() } }.value
  }

  /// Returns when leadership is lost or the task cancelled.
  private func keepRenewing(_ clock: ContinuousClock) async {
    var renewed = clock.now
    while !Task.isCancelled {
      try? await Task.sleep(for: settings.retryPeriod)
      let asked = clock.now
      // A server that doesn't answer must not keep this replica working past its deadline.
      let outcome = await within(settings.renewDeadline - (asked - renewed)) {
        var ignored: (version: String, at: ContinuousClock.Instant)?
        return await acquire(&ignored, clock)
      }
      switch outcome {
      case .held: renewed = asked
      case .taken:
        log.error("leadership lost: another took the lease", metadata: ["lease": "\(name)"])
        return
      case .failed, nil:
        guard clock.now - renewed >= settings.renewDeadline else { continue }
        log.error("leadership lost: the lease could not be renewed", metadata: ["lease": "\(name)"])
        return
      }
    }
  }

  /// What `body` returns, or nil if that takes too long.
  private func within<Result: Sendable>(
    _ limit: Duration, _ body: @escaping @Sendable () async -> Result
  ) async -> Result? {
    await withTaskGroup(of: Result?.self) { group in
      group.addTask { await body() }
      group.addTask {
        try? await Task.sleep(for: limit)
        return nil
      }
      defer { group.cancelAll() }
      return await group.next() ?? nil
    }
  }

  private enum Outcome { case held, taken, failed }

  /// Takes or renews the lease, if no other holds it.
  private func acquire(
    _ seen: inout (version: String, at: ContinuousClock.Instant)?, _ clock: ContinuousClock
  ) async -> Outcome {
    do {
      var lease: Value
      do {
        lease = try await client.get(.leases, namespace: namespace, name: name)
      } catch let error as StatusError where error.code == 404 {
        try await client.create(.leases, namespace: namespace, newLease())
        return .held
      }
      let holder = lease["spec"]["holderIdentity"].string ?? ""
      if holder != identity && !holder.isEmpty {
        let version = lease["metadata"]["resourceVersion"].string ?? ""
        if seen?.version != version { seen = (version, clock.now) }
        guard clock.now - seen!.at > settings.leaseDuration else { return .taken }
      }
      var spec = lease["spec"]
      if holder != identity {
        spec.set("acquireTime", to: Value(Timestamp.now.microDescription))
        spec.set("leaseTransitions", to: Value((spec["leaseTransitions"].int ?? 0) + 1))
      }
      spec.set("holderIdentity", to: Value(identity))
      spec.set("leaseDurationSeconds", to: Value(settings.leaseDuration.components.seconds))
      spec.set("renewTime", to: Value(Timestamp.now.microDescription))
      lease.set("spec", to: spec)
      try await client.update(.leases, lease)
      return .held
    } catch {
      return .failed
    }
  }

  private func newLease() -> Value {
    let now = Value(Timestamp.now.microDescription)
    return [
      "kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
      "metadata": ["name": Value(name), "namespace": Value(namespace)],
      "spec": [
        "holderIdentity": Value(identity),
        "leaseDurationSeconds": Value(settings.leaseDuration.components.seconds),
        "acquireTime": now,
        "renewTime": now, "leaseTransitions": 0,
      ],
    ]
  }

  /// Gives the lease up, if it is still this replica's.
  private func release() async {
    guard var lease = try? await client.get(.leases, namespace: namespace, name: name),
      lease["spec"]["holderIdentity"].string == identity
    else { return }
    var spec = lease["spec"]
    spec.set("holderIdentity", to: "")
    lease.set("spec", to: spec)
    _ = try? await client.update(.leases, lease)
  }
}
