import Foundation
import TestKit
import Testing

extension StoreConformance {
  /// Real members under faults for half a minute; `Scripts/fault-run` does it for as long as one likes.
  @Suite(.serialized, .enabled(if: FaultRunProgram.obstacle == nil, "\(FaultRunProgram.obstacle ?? "")"))
  struct Faults {
    /// Kills, stops, partitions, lossy and slow links, restarts, replacements and a full disk, and then every
    /// client's history is checked: Linearizable, the watch guarantees, leases, equal members.
    @Test func membersUnderFaults() throws {
      let outcome = try FaultRunProgram.program.run(["--seconds", "28", "--seed", "1"], seconds: 240)
      #expect(outcome.status == 0, "\(outcome.output)\(outcome.errors)")
      print(outcome.output)
    }
  }
}

/// `martlet-faults`, which is built with the tests.
enum FaultRunProgram {
  static let program: Program = {
    // Beside the test bundle.
    let folder =
      Bundle.allBundles.map(\.bundlePath).first { $0.hasSuffix(".xctest") }
      .map { URL(fileURLWithPath: $0).deletingLastPathComponent().path }
      ?? "\(Peers.repository)/.build/debug"
    return Program(path: "\(folder)/martlet-faults")
  }()

  /// Why it can't run here, nil if it can.
  static let obstacle: String? = {
    do {
      let outcome = try program.run(["--probe"])
      return outcome.status == 0 ? nil : outcome.output + outcome.errors
    } catch { return "\(error)" }
  }()
}
