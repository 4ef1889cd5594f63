import Foundation

#if canImport(Glibc)
  import Glibc
#endif

/// Members of a store as real processes: ours or etcd's, with fresh data and ports of their own.
///
/// Members are named by their position, from 0. All are killed, and their data removed, when the last
/// reference goes away. If the test itself dies without a chance to do that, a guardian process does.
public final class StoreCluster {
  public enum Implementation: String, Sendable, CaseIterable {
    case martlet
    case etcd

    /// Its program, nil if it is not on this machine.
    public var program: Program? { self == .martlet ? Peers.martlet : Peers.etcd }
  }

  /// Which ports are under TLS.
  public enum Secured: Sendable {
    case none, clients, both
  }

  public struct Member {
    public let name: String
    public let clientPort: Int
    public let peerPort: Int
    /// A second client port, in the clear, for asking after health where the first is under TLS.
    fileprivate let plainPort: Int?
    /// Nil before the first start.
    public fileprivate(set) var process: RunningProgram?

    public var endpoint: String { "127.0.0.1:\(clientPort)" }
  }

  public let implementation: Implementation
  public private(set) var members: [Member]
  private let program: Program
  private let flags: [String]
  private let secured: Secured
  private let environment: [String: String]
  private let folder = TestFolder()
  private let guardian = Process()
  private let guardianInput = Pipe()

  /// Starts all members and waits until every one answers that it is healthy.
  ///
  /// - Parameters:
  ///   - flags: further flags of every member.
  ///   - secured: the ports whose URLs are `https://`; `flags` name the certificates.
  ///   - environment: variables of every member, added to the test's.
  public init(
    _ implementation: Implementation = .martlet, members count: Int = 1, flags: [String] = [],
    secured: Secured = .none, environment: [String: String] = [:]
  ) throws {
    guard let program = implementation.program else {
      throw ProgramError("there is no \(implementation) here")
    }
    self.implementation = implementation
    self.program = program
    self.flags = flags
    self.secured = secured
    self.environment = environment
    members = try (0..<count).map {
      Member(
        name: "m\($0)", clientPort: try Loopback.freePort(), peerPort: try Loopback.freePort(),
        plainPort: secured == .none ? nil : try Loopback.freePort())
    }
    try startGuardian()
    for index in members.indices { try start(index) }
    try waitUntilHealthy()
  }

  deinit {
    for member in members { member.process?.kill() }
    try? guardianInput.fileHandleForWriting.close()
    guardian.waitUntilExit()
  }

  /// Starts the process that cleans up when its input ends, which is when the test ends in whatever way.
  ///
  /// It reads the ids of members. One is killed only if it works in this cluster's folder: its id may have
  /// become another process's.
  private func startGuardian() throws {
    guardian.executableURL = URL(fileURLWithPath: "/bin/sh")
    guardian.arguments = [
      "-c",
      """
      trap '' INT TERM HUP
      while read id; do ids="$ids $id"; done
      for id in $ids; do
        [ "$(readlink /proc/$id/cwd)" = "$0" ] && kill -9 $id
      done
      rm -rf "$0"
      """, folder.path,
    ]
    guardian.standardInput = guardianInput
    try guardian.run()
  }

  /// The client addresses of all members, as clients take them: separated by commas.
  public var endpoints: String { members.map(\.endpoint).joined(separator: ",") }

  public func dataDirectory(of index: Int) -> String { "\(folder.path)/\(members[index].name)" }

  /// What a member printed to standard error since its last start.
  public func log(of index: Int) -> String { members[index].process?.errors ?? "" }

  /// The flags that a member is started with.
  public func arguments(of index: Int) -> [String] {
    let member = members[index]
    let scheme = secured == .none ? "http" : "https"
    let peerScheme = secured == .both ? "https" : "http"
    let client =
      "\(scheme)://127.0.0.1:\(member.clientPort)"
      + (member.plainPort.map { ",http://127.0.0.1:\($0)" } ?? "")
    let peer = "\(peerScheme)://127.0.0.1:\(member.peerPort)"
    let cluster = members.map { "\($0.name)=\(peerScheme)://127.0.0.1:\($0.peerPort)" }
    return (implementation == .martlet ? ["store"] : []) + [
      "--name", member.name, "--data-dir", dataDirectory(of: index),
      "--listen-client-urls", client, "--advertise-client-urls", client,
      "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
      "--initial-cluster", cluster.joined(separator: ","),
      "--initial-cluster-token", folder.path, "--log-level", "warn",
    ] + flags
  }

  /// Starts a member that does not run. Does not wait.
  ///
  /// - Parameter environment: its variables; nil for those of the cluster.
  public func start(_ index: Int, environment: [String: String]? = nil) throws {
    let process = try program.start(
      arguments(of: index), environment: environment ?? self.environment, directory: folder.path)
    members[index].process = process
    try guardianInput.fileHandleForWriting.write(contentsOf: Data("\(process.processID)\n".utf8))
  }

  /// `kill -9`.
  public func kill(_ index: Int) { members[index].process?.kill() }

  /// Stops a member as an operator does, with SIGTERM.
  ///
  /// - Returns: its exit status, nil if it had to be killed after ten seconds.
  @discardableResult
  public func stop(_ index: Int) -> Int32? {
    guard let process = members[index].process else { return nil }
    process.signal(SIGTERM)
    guard process.waitUntilExit(seconds: 10) else {
      process.kill()
      return nil
    }
    return process.status
  }

  /// Waits until every running member says that it is healthy: it knows a leader and answers.
  public func waitUntilHealthy(seconds: Double = 20) throws {
    for (index, member) in members.enumerated() {
      var answer: String?
      let isHealthy = try waitUntil(seconds: seconds) {
        guard member.process?.isRunning == true else {
          throw ProgramError(
            "\(implementation) \(member.name) ended with status \(member.process?.status ?? -1):\n"
              + log(of: index))
        }
        answer = Loopback.get(port: member.plainPort ?? member.clientPort, path: "/health")
        return answer?.contains(#""health":"true""#) == true
      }
      guard isHealthy else {
        throw ProgramError(
          "\(implementation) \(member.name) is not healthy after \(seconds) s: "
            + "\(answer ?? "no answer")\n\(log(of: index))")
      }
    }
  }
}
