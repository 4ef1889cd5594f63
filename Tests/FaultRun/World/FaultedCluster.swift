import Foundation
import Primitives
import TestKit

#if canImport(Glibc)
  import Glibc
#endif

/// The members, as an operator with a heavy hand sees them. Belongs to the thread that makes the faults.
final class FaultedCluster {
  struct Member {
    let name: String
    /// Where its data lies.
    var data: String
    var process: Child?
    var isPaused = false
    /// It joined a cluster that ran: what it is started with says so.
    var joined = false
    var starts = 0
  }

  private(set) var members: [Member]
  let network: MemberNetwork
  private let program: Program
  private let folder: String
  private var random: RandomSource
  /// Whether each start of a member can get a monotonic clock that began elsewhere (time namespaces).
  let hasClockOffsets: Bool

  init(_ options: FaultRunOptions, random: RandomSource) throws {
    program = options.program
    folder = options.folder
    self.random = random
    network = try MemberNetwork(members: options.members)
    hasClockOffsets =
      (try? Tool.run("unshare", ["-T", "--monotonic", "5", "--boottime", "5", "true"])) != nil
    members = (0..<options.members).map {
      Member(name: "m\($0)", data: "\(options.folder)/m\($0)")
    }
  }

  /// A member's data lies on a disk of its own, mounted there.
  func place(_ member: Int, on disk: String) { members[member].data = "\(disk)/data" }

  // MARK: Starting and ending

  func start(_ member: Int) throws {
    let address = MemberNetwork.address(member)
    let cluster = members.indices.map { "m\($0)=http://\(MemberNetwork.address($0)):2380" }
    var command = try MemberNetwork.prefix(member)
    if hasClockOffsets {
      // A monotonic clock is anyone's: what a member remembers over a restart must not count on it.
      let offset = "\(random.below(1_000_000))"
      command += [try Tool.required("unshare"), "-T", "--monotonic", offset, "--boottime", offset, "--"]
    }
    command += [
      program.path, "store", "--name", members[member].name, "--data-dir", members[member].data,
      "--listen-client-urls", "http://\(address):2379", "--advertise-client-urls", "http://\(address):2379",
      "--listen-peer-urls", "http://\(address):2380", "--initial-advertise-peer-urls", "http://\(address):2380",
      "--initial-cluster", cluster.joined(separator: ","),
      "--initial-cluster-state", members[member].joined ? "existing" : "new",
      "--snapshot-count", "2000", "--watch-progress-notify-interval", "1s", "--log-level", "info",
    ]
    members[member].process = try Child(command, folder: folder, name: members[member].name)
    members[member].starts += 1
    members[member].isPaused = false
  }

  func startAll() throws {
    for member in members.indices where members[member].process == nil { try start(member) }
  }

  /// `kill -9`.
  func kill(_ member: Int) {
    members[member].process?.kill()
    members[member].process = nil
    members[member].isPaused = false
  }

  /// Stops a member as an operator does, with SIGTERM.
  func stop(_ member: Int) throws {
    guard let process = members[member].process else { return }
    process.signal(SIGTERM)
    guard process.waitUntilExit(seconds: 20) else {
      throw FaultRunFailure("\(members[member].name) did not end within 20 s of SIGTERM", log: log(of: member))
    }
    guard process.status == 0 else {
      throw FaultRunFailure(
        "\(members[member].name) ended with status \(process.status ?? -1) on SIGTERM", log: log(of: member))
    }
    members[member].process = nil
  }

  func pause(_ member: Int) {
    members[member].process?.signal(SIGSTOP)
    members[member].isPaused = true
  }

  func goOn(_ member: Int) {
    members[member].process?.signal(SIGCONT)
    members[member].isPaused = false
  }

  /// Takes a member's data away for good; it comes back as another one.
  func replaceData(of member: Int) throws {
    members[member].process?.kill()
    members[member].process = nil
    try FileManager.default.removeItem(atPath: members[member].data)
    members[member].joined = true
  }

  /// Waits for a member to end by itself, as one does that was removed from the cluster.
  func awaitEnd(of member: Int, seconds: Double) -> Bool {
    guard let process = members[member].process else { return true }
    guard process.waitUntilExit(seconds: seconds) else { return false }
    members[member].process = nil
    return true
  }

  // MARK: Looking

  var running: [Int] { members.indices.filter { members[$0].process != nil && !members[$0].isPaused } }

  /// What a member printed since its last start; its end.
  func log(of member: Int) -> String {
    (members[member].process?.errors ?? "").split(separator: "\n").suffix(40).joined(separator: "\n")
  }

  /// Makes sure that no member ended by itself.
  func verifyAlive() throws {
    for (number, member) in members.enumerated() {
      guard let process = member.process, !process.isRunning else { continue }
      throw FaultRunFailure(
        "\(member.name) ended by itself with status \(process.status ?? -1)", log: log(of: number))
    }
  }
}

/// Why a run failed.
struct FaultRunFailure: Error, CustomStringConvertible {
  var description: String
  init(_ what: String, log: String = "") {
    description = log.isEmpty ? what : "\(what); its log ends so:\n\(log)"
  }
}
