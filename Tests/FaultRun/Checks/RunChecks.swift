import Verification

/// What the clients saw, held against what the store promises.
struct RunChecks {
  struct Summary: Sendable {
    var revisions: Int64
    var streams: Int
    var events: Int
    var leases: Int
    var seconds: Double
  }

  private let history: History
  private let streams: [WatchHistory]
  private let leases: [Recorder.Lease]
  private let compacted: Int64

  init(_ recorder: Recorder) {
    history = recorder.history
    streams = recorder.streams
    leases = recorder.leases
    compacted = recorder.compactedRevision
  }

  /// - Throws: `BrokenGuarantee`.
  func check(finalRevision: Int64) throws -> Summary {
    let start = Recorder.now()
    let timeline = try LinearizabilityChecker.check(history, watches: streams)
    var events = 0
    for stream in streams {
      try WatchChecker.check(stream, against: timeline, previousKnownAfter: compacted)
      for case .events(let told) in stream.messages { events += told.count }
    }
    try checkLeases(timeline)
    return Summary(
      revisions: timeline.revision, streams: streams.count, events: events, leases: leases.count,
      seconds: Double(Recorder.now() - start) / 1e9)
  }

  /// No lease may end while its holder relies on it.
  private func checkLeases(_ timeline: Timeline) throws(BrokenGuarantee) {
    for lease in leases {
      if let instant = lease.deniedEarlyAt {
        throw BrokenGuarantee(
          "Lease",
          "lease \(lease.id) was said not to exist at \(instant), but was granted until \(lease.validUntil)")
      }
    }
    // By when each revision was known to someone: the first end of a call that was told it or a later one.
    var knownAt = [UInt64](repeating: .max, count: Int(timeline.revision) + 2)
    for call in history.calls {
      guard case .answered(_, let revision) = call.outcome else { continue }
      let place = Int(min(revision, timeline.revision))
      knownAt[place] = min(knownAt[place], call.end)
    }
    for place in knownAt.indices.dropLast().reversed() {
      knownAt[place] = min(knownAt[place], knownAt[place + 1])
    }
    let byKey = Dictionary(uniqueKeysWithValues: leases.map { (Array("lease/\($0.id)".utf8), $0) })
    guard timeline.revision >= 2 else { return }
    for revision in 2...timeline.revision {
      for event in timeline.events(at: revision) where event.isDelete {
        guard let lease = byKey[event.record.key] else { continue }
        let known = knownAt[Int(revision)]
        guard known >= min(lease.validUntil, lease.revokedFrom) else {
          throw BrokenGuarantee(
            "Lease",
            "lease \(lease.id) had ended by \(known) (revision \(revision)), but its holder could rely on it until "
              + "\(lease.validUntil)")
        }
      }
    }
  }
}
