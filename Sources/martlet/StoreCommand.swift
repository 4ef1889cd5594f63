import ArgumentParser
import EtcdServer
import Logging
import PeerTransport
import Persistence
import Primitives
import Raft
import Replica

#if canImport(Glibc)
  import Glibc
#endif

/// `martlet store`: one member of the replicated store.
struct StoreCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "store",
    abstract: "Run one member of the replicated key-value store (etcd's v3 API).",
    discussion: """
      With --config-file FILE all flags come from etcd's YAML form instead.

      Flags are etcd's, with one dash or two, with a blank or '='; each is also read from the environment
      (--data-dir from ETCD_DATA_DIR). A member alone:

        martlet store

      A cluster of three, here the first of them:

        martlet store --name m1 \\
          --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \\
          --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \\
          --initial-cluster m1=http://127.0.0.1:2380,m2=http://127.0.0.1:22380,m3=http://127.0.0.1:32380
      """)

  @Option(help: "Human-readable name of this member.")
  var name = "default"

  @Option(help: "Directory of the log and the snapshots (default: NAME.martlet).")
  var dataDir: String?

  @Option(help: "URLs to listen on for clients, separated by commas.")
  var listenClientUrls = "http://localhost:2379"

  @Option(help: "Client URLs to tell the cluster and clients (default: those listened on).")
  var advertiseClientUrls: String?

  @Option(help: "URLs to listen on for the other members.")
  var listenPeerUrls = "http://localhost:2380"

  @Option(help: "Peer URLs to tell the cluster.")
  var initialAdvertisePeerUrls = "http://localhost:2380"

  @Option(help: "All members when the cluster starts: NAME=URL, separated by commas.")
  var initialCluster: String?

  @Option(help: "'new' for a cluster that starts, 'existing' to join one that runs.")
  var initialClusterState = "new"

  @Option(help: "Tells clusters apart that are started with the same URLs.")
  var initialClusterToken = "etcd-cluster"

  @Option(help: "Log entries between snapshots (default: decided by the size of the log).")
  var snapshotCount: UInt64?

  @Option(help: "Milliseconds between a leader's heartbeats.")
  var heartbeatInterval: UInt64 = 100

  @Option(help: "Milliseconds without a leader after which a member stands for election.")
  var electionTimeout: UInt64 = 1000

  @Option(help: "debug, info, warn, error, panic or fatal.")
  var logLevel = "info"

  @Option(
    help: "Bytes of state after which writes are refused (0: 2 GiB, as in etcd; below 0: no bound)."
  )
  var quotaBackendBytes: Int64 = 0

  @Option(help: "The largest request taken from a client, in bytes.")
  var maxRequestBytes = 1_572_864

  @Option(help: "The most operations in a transaction.")
  var maxTxnOps = 128

  @OptionGroup(title: "Operation")
  var operation: StoreOperationFlags

  @OptionGroup(title: "Security")
  var security: StoreSecurityFlags

  func run() async throws {
    let configuration = try StoreConfiguration(self)
    try await StoreMember(configuration).run()
  }
}
