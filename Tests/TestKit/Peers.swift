import Foundation

/// Where the programs are that tests against real processes use.
public enum Peers {
  /// The root of the repository: found from this file, links resolved.
  public static let repository: String = {
    var url = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath()
    for _ in 0..<3 { url.deleteLastPathComponent() }
    return url.path
  }()

  /// `martlet`, as `Scripts/test` built it, or `MARTLET_BINARY`.
  public static let martlet = find([
    ProcessInfo.processInfo.environment["MARTLET_BINARY"], "\(repository)/.build/release/martlet",
  ])
  /// The real etcd 3.5.1, which `Scripts/fetch-peers` fetches.
  public static let etcd = find(["\(repository)/.cache/peers/etcd"])
  /// etcdctl 3.5.1, from the same place.
  public static let etcdctl = find(["\(repository)/.cache/peers/etcdctl"])
  /// Debian's etcdctl, 3.4.
  public static let debianEtcdctl = find(["/usr/bin/etcdctl"])
  /// kubectl: the system's, or the one that `Scripts/fetch-peers` fetches.
  public static let kubectl = find([
    "/usr/bin/kubectl", "/usr/local/bin/kubectl", "\(repository)/.cache/peers/kubectl",
  ])
  /// A Python with grpcio and grpcio-tools, which `Scripts/fetch-peers` sets up.
  public static let python = find(["\(repository)/.cache/venv/bin/python"])

  private static func find(_ candidates: [String?]) -> Program? {
    candidates.compactMap { $0 }.first { FileManager.default.isExecutableFile(atPath: $0) }
      .map { Program(path: $0) }
  }
}
