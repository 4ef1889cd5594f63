import Simulator

/// Runs of seeds, one after the other, and what came of them.
struct Series {
  let first: UInt64
  var next: UInt64
  var total = SimulationReport()
  var failures: [UInt64] = []
  private let began = ContinuousClock.now
  private var lastProgress = ContinuousClock.now

  init(first: UInt64) {
    self.first = first
    next = first
  }

  var done: UInt64 { next - first }
  /// Real seconds since the start.
  var elapsed: Double { (ContinuousClock.now - began) / .seconds(1) }
  private var speed: Double { total.simulatedSeconds / max(elapsed, 0.001) }

  /// Tells where the series stands, every ten seconds.
  mutating func printProgress(of count: UInt64?) {
    let now = ContinuousClock.now
    guard now - lastProgress >= .seconds(10) else { return }
    lastProgress = now
    let all = count.map { " of \($0)" } ?? ""
    print(
      "\(done)\(all) seeds, \(rounded(total.simulatedSeconds / 3_600)) simulated hours, "
        + "\(Int(speed)) times real time, \(failures.count) failed")
  }

  func printSummary() {
    let seconds = max(total.simulatedSeconds, 0.001)
    print(
      """
      simulated \(Int(total.simulatedSeconds)) s in \(Int(elapsed.rounded())) s (\(Int(speed)) times real time): \
      \(total.operations) operations (\(rounded(Double(total.operations) / seconds)) a second), \
      \(total.failed) refused, \(total.unknown) unknown, \(total.messages) messages
      \(total.faults) faults (\(rounded(Double(total.faults) / seconds)) a second): \(total.crashes) crashes, \
      \(total.pauses) pauses, \(total.partitions) partitions, \(total.diskFaults) disk faults, \
      \(total.membersLost) members lost, \(total.transfers) transfers
      \(total.leaders) elections won, \(total.truncations) truncations, \(total.snapshots) snapshots, \
      \(total.snapshotsInstalled) installed, \(total.membershipChanges) membership changes, \
      \(total.compactions) compactions, \(total.watchEvents) events on \(total.watchStreams) broken streams
      seeds \(first) to \(next - 1): \(done - UInt64(failures.count)) passed, \(failures.count) failed
      """)
    if total.undecided > 0 {
      print(
        "of the passed, \(total.undecided) have histories with too many unknown outcomes to be decided; "
          + (hasTooManyUndecided ? "that is too many" : "one in fifty may"))
    }
  }

  /// What isn't decided proves nothing, so there must be few.
  var hasTooManyUndecided: Bool { UInt64(total.undecided) > max(1, done / 50) }

  /// The counts in the order of the table in `Docs/Testing.md`.
  var row: String {
    let seconds = max(total.simulatedSeconds, 0.001)
    let failed = failures.isEmpty ? "0" : "\(failures.count): \(failures.map(String.init).joined(separator: ", "))"
    let cells: [String] = [
      "\(first) to \(next - 1)", rounded(total.simulatedSeconds / 3_600), "\(Int(speed))", "\(total.operations)",
      rounded(Double(total.operations) / seconds), "\(total.faults)", rounded(Double(total.faults) / seconds),
      "\(total.leaders)", "\(total.crashes)", "\(total.snapshots) (\(total.snapshotsInstalled))",
      "\(total.truncations)", "\(total.membershipChanges)", "\(total.membersLost)", failed,
    ]
    return "| " + cells.joined(separator: " | ") + " |"
  }

  /// One digit behind the point.
  private func rounded(_ value: Double) -> String { "\((value * 10).rounded() / 10)" }
}
