import Dispatch
import KubeAPI
import KubeClient
import Logging
import Netfilter
import Synchronization

/// Keeps a node's packet rules what the cluster's services say.
///
/// ```
/// informers ──which service changed──▶ compile that service ──▶ compare ──▶ one nft transaction
/// ```
///
/// Changes that come close together go in one transaction. A transaction that fails (somebody removed the
/// table, say) is followed by a new one that writes everything anew.
public final class ServiceRouter: Sendable {
  public struct Settings: Sendable {
    /// The node's name, for policies that keep traffic on it.
    public var nodeName: String
    public var network = NftScript.Network()
    /// Whether the rules go when the proxy ends. Without it services work on, as they were.
    public var removesRulesOnExit = false
    public init(nodeName: String) { self.nodeName = nodeName }
  }

  enum Limits {
    /// How long changes are collected before they are written.
    static let collect = Duration.milliseconds(50)
    /// How long after a failure everything is written anew.
    static let retry = Duration.seconds(1)
  }

  private let settings: Settings
  private let log: Logger
  private let services: Informer
  private let slices: Informer
  private let apply: @Sendable (String) async throws -> Void
  private let changed: Mutex<Set<ObjectKey>> = Mutex([])
  private let signals: AsyncStream<Void>
  private let signal: AsyncStream<Void>.Continuation

  /// - Parameter apply: hands a program to the kernel, as a whole or not at all.
  public init(
    _ settings: Settings, client: APIClient, log: Logger,
    apply: @escaping @Sendable (String) async throws -> Void = NftCommand.run
  ) {
    self.settings = settings
    self.log = log
    self.apply = apply
    services = Informer(.services, client: client, log: log)
    slices = Informer(.endpointSlices, client: client, log: log)
    (signals, signal) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
  }

  /// Runs until the task is cancelled.
  public func run() async {
    slices.addIndex("service") { slice in Self.service(of: slice).map { ["\($0)"] } ?? [] }
    services.addHandler { [weak self] in self?.note(ObjectKey($0.object)) }
    slices.addHandler { [weak self] change in
      if let key = Self.service(of: change.object) { self?.note(key) }
    }
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await self.services.run() }
      group.addTask { await self.slices.run() }
      group.addTask { await self.keepRules() }
      await group.waitForAll()
    }
    if settings.removesRulesOnExit {
      // In a task of its own: this one is cancelled.
      await Task { [apply] in try? await apply(NftScript.removal) }.value
    }
  }

  private static func service(of slice: Value) -> ObjectKey? {
    slice["metadata"]["labels"]["kubernetes.io/service-name"].string.map {
      ObjectKey(namespace: slice["metadata"]["namespace"].string ?? "", name: $0)
    }
  }

  private func note(_ key: ObjectKey) {
    changed.withLock { _ = $0.insert(key) }
    signal.yield()
  }

  private func removeFlows(_ stale: StaleFlows) async {
    guard !stale.isEmpty else { return }
    do {
      try await Self.clear(stale)
    } catch {
      log.warning("UDP flows to targets that are gone stay until they end: \(error)")
    }
  }

  /// Reads the kernel's whole table, on a thread that may block.
  private static func clear(_ stale: StaleFlows) async throws {
    try await withCheckedThrowingContinuation {
      (continuation: CheckedContinuation<Void, any Error>) in
      DispatchQueue.global().async {
        continuation.resume(
          with: Result { _ = try ConntrackTable.removeFlows { stale.contains($0) } })
      }
    }
  }

  private func keepRules() async {
    // Rules from half a picture would refuse connections to services that are well.
    await services.waitUntilSynced()
    await slices.waitUntilSynced()
    var written: RuleSet?
    var ports: [ObjectKey: [ServicePort]] = [:]
    signal.yield()
    for await _ in signals {
      if Task.isCancelled { return }
      let keys = changed.withLock { keys in
        defer { keys = [] }
        return keys
      }
      for key in keys {
        let service = services.get(key)
        ports[key] = service.map {
          RuleSet.compile(
            $0, slices.list(index: "service", "\(key)"), node: settings.nodeName)
        }
      }
      let rules = RuleSet(ports.values.joined())
      let script =
        written.map { NftScript.change(from: $0, to: rules) }
        ?? NftScript.full(rules, settings.network)
      if script.isEmpty { continue }
      do {
        try await apply(script)
        if written == nil { log.info("rules for \(rules.ports.count) service ports written") }
        if let written { await removeFlows(StaleFlows(from: written, to: rules)) }
        written = rules
        try? await Task.sleep(for: Limits.collect)
      } catch {
        log.warning("the rules were not taken, writing all of them anew: \(error)")
        written = nil
        try? await Task.sleep(for: Limits.retry)
        signal.yield()
      }
    }
  }
}
