import KubeAPI

/// What the probes of a pod's containers have found, and what follows from it.
///
/// Pure: results come in, the answers to "has it started?", "is it ready?", "must it go?" come out. The
/// rules are Kubernetes': a result counts once it came as many times in a row as the probe's threshold
/// says; a container begins as alive and not ready; liveness and readiness wait for startup; a container
/// that has failed is not probed for life any more, since it is about to go.
///
/// The memory is lost with the agent. A container that the API calls started or ready then is taken to be
/// still so until its probes say otherwise: a restart of the agent must not take a pod out of its services.
struct ProbeTracker: Sendable {
  enum Outcome: Sendable, Equatable {
    case success
    case failure(String)
    /// The probe itself could not be carried out; counts for nothing.
    case unknown(String)
  }

  private struct Entry: Sendable {
    var probes: [ProbeKind: ProbeSettings]
    var isStarted: Bool
    var isReady: Bool
    /// The probe whose failure ends the container.
    var failed: ProbeKind?
    /// The last outcome of each probe and how many times in a row it came.
    var runs: [ProbeKind: (isSuccess: Bool, count: Int)] = [:]
  }
  private var entries: [ContainerID: Entry] = [:]

  /// Takes note of a running container.
  ///
  /// - Parameter recorded: its status in the API, for one that ran before the agent did.
  mutating func follow(_ id: ContainerID, _ probes: [ProbeKind: ProbeSettings], recorded: Value) {
    if entries[id] != nil { return }
    let isKnown = recorded["containerID"].string == "crun://\(id)"
    entries[id] = Entry(
      probes: probes,
      isStarted: probes[.startup] == nil || isKnown && recorded["started"].bool == true,
      isReady: probes[.readiness] == nil || isKnown && recorded["ready"].bool == true)
  }

  /// Forgets all containers but these.
  mutating func keep(only ids: Set<ContainerID>) {
    for id in entries.keys where !ids.contains(id) { entries[id] = nil }
  }

  func isStarted(_ id: ContainerID) -> Bool { entries[id]?.isStarted ?? true }
  func isReady(_ id: ContainerID) -> Bool {
    entries[id].map { $0.isStarted && $0.isReady } ?? true
  }
  /// The probe whose failure ends the container; it stays noted when the container has ended.
  func failedProbe(_ id: ContainerID) -> (kind: ProbeKind, settings: ProbeSettings)? {
    guard let entry = entries[id], let kind = entry.failed, let settings = entry.probes[kind]
    else { return nil }
    return (kind, settings)
  }

  /// The probes that a container is to undergo now.
  func active(_ id: ContainerID, isLeaving: Bool) -> [ProbeKind: ProbeSettings] {
    guard let entry = entries[id] else { return [:] }
    return entry.probes.filter { kind, _ in
      switch kind {
      case .startup: !entry.isStarted && entry.failed == nil && !isLeaving
      case .liveness: entry.isStarted && entry.failed == nil && !isLeaving
      case .readiness: entry.isStarted
      }
    }
  }

  /// Takes a probe's result.
  ///
  /// - Returns: what to tell about it; nil for a success.
  mutating func record(
    _ kind: ProbeKind, of id: ContainerID, name: String, _ outcome: Outcome
  ) -> PodLifecycle.Announcement? {
    guard var entry = entries[id], let settings = entry.probes[kind] else { return nil }
    let isSuccess: Bool
    var announcement: PodLifecycle.Announcement?
    switch outcome {
    case .success: isSuccess = true
    case .failure(let message):
      isSuccess = false
      announcement = .init(
        isWarning: true, reason: "Unhealthy", message: "\(kind.title) probe failed: \(message)",
        container: name)
    case .unknown(let message):
      return .init(
        isWarning: true, reason: "Unhealthy", message: "\(kind.title) probe errored: \(message)",
        container: name)
    }
    let before = entry.runs[kind]
    let count = before?.isSuccess == isSuccess ? (before?.count ?? 0) + 1 : 1
    entry.runs[kind] = (isSuccess, count)
    if count >= (isSuccess ? settings.successThreshold : settings.failureThreshold) {
      switch (kind, isSuccess) {
      case (.startup, true): entry.isStarted = true
      case (.readiness, _): entry.isReady = isSuccess
      case (.startup, false), (.liveness, false): entry.failed = entry.failed ?? kind
      case (.liveness, true): break
      }
    }
    entries[id] = entry
    return announcement
  }
}
