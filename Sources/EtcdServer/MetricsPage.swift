import HTTP2
import MVCC
import Primitives
import Replica

/// The metrics in Prometheus' text form, under the names that etcd's dashboards know.
enum MetricsPage {
  private typealias Page = PrometheusPage

  static func render(_ sums: LoopMetrics, _ front: any ReplicaFront) -> String {
    var page = Page()
    let status = front.status
    let view = front.view
    let counters = status.counters

    page.gauge(
      "etcd_server_has_leader", "Whether a leader is known.", status.leader == nil ? 0 : 1)
    page.gauge(
      "etcd_server_is_leader", "Whether this member leads.", status.role == .leader ? 1 : 0)
    page.gauge(
      "etcd_server_is_learner", "Whether this member is a learner.",
      status.restrictions.contains(.learner) ? 1 : 0
    )
    page.counter(
      "etcd_server_leader_changes_seen_total", "Changes of leader seen.", counters.leaderChanges)
    page.gauge(
      "etcd_server_proposals_committed_total", "The last index committed.",
      status.commitIndex.rawValue)
    page.gauge(
      "etcd_server_proposals_applied_total", "The last index applied.",
      status.appliedIndex.rawValue)
    page.gauge(
      "etcd_server_proposals_pending", "Proposals not yet answered.", counters.proposalsPending)
    page.counter(
      "etcd_server_proposals_failed_total", "Proposals that failed.", counters.proposalsFailed)
    page.counter(
      "etcd_server_read_indexes_failed_total", "Linearizable reads that failed.",
      counters.readsFailed)
    page.labelled(
      "etcd_server_version", "gauge", "The version this server says it is.",
      [("server_version=\"\(EtcdServerSettings.reportedVersion)\"", 1)])
    page.labelled(
      "etcd_cluster_version", "gauge", "The version the cluster agreed on.",
      [("cluster_version=\"\(EtcdServerSettings.reportedClusterVersion)\"", 1)])
    page.gauge(
      "martlet_cluster_feature_level", "The feature level that the members agreed on.",
      UInt64(status.featureLevel.rawValue))
    page.labelled(
      "etcd_server_id", "gauge", "This member's id.",
      [("server_id=\"\(front.identity.member)\"", 1)])

    page.gauge(
      "etcd_mvcc_db_total_size_in_bytes", "Bytes that the state takes.", status.stateBytes)
    page.gauge(
      "etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of the state in use.", status.stateBytes)
    page.gauge(
      "etcd_server_quota_backend_bytes", "Bytes that the state may take.",
      status.quotaBytes ?? 0)
    page.gauge(
      "etcd_debugging_mvcc_keys_total", "Keys in the store.", UInt64(clamping: view.keyCount))
    page.gauge(
      "etcd_debugging_mvcc_current_revision", "The store's revision.",
      UInt64(clamping: view.revision.rawValue))
    page.gauge(
      "etcd_debugging_mvcc_compact_revision", "The revision compacted to.",
      UInt64(clamping: view.compactRevision.rawValue))
    page.gauge(
      "etcd_debugging_mvcc_watch_stream_total", "Watch streams.",
      UInt64(clamping: sums.watchStreams))
    page.gauge(
      "etcd_debugging_mvcc_watcher_total", "Watchers.", UInt64(clamping: sums.watchers))
    page.counter(
      "etcd_disk_wal_write_bytes_total", "Bytes written to the log.", counters.logBytes)
    let timings = front.timings
    page.histogram(
      "etcd_disk_wal_fsync_duration_seconds", "Writes to the log, each with its sync.",
      [("", timings.logSync)])
    page.histogram(
      "etcd_disk_backend_commit_duration_seconds",
      "Applying what was committed and publishing it: what a commit to a backend is here.",
      [("", timings.commit)])
    addPeers(front, to: &page)
    page.counter(
      "martlet_log_writes_total", "Writes to the log, each one sync.", counters.logWrites)
    page.counter("martlet_snapshots_taken_total", "Snapshots taken.", counters.snapshotsTaken)
    page.counter(
      "etcd_debugging_lease_ttl_expired_total", "Leases that ran out.", counters.leasesExpired)
    page.counter(
      "martlet_read_rounds_total", "Rounds of messages for linearizable reads.", counters.readRounds
    )

    page.counter(
      "etcd_network_client_grpc_received_bytes_total", "Request bytes.", sums.receivedBytes)
    page.counter("etcd_network_client_grpc_sent_bytes_total", "Response bytes.", sums.sentBytes)
    page.gauge(
      "martlet_client_connections", "gRPC connections.", UInt64(clamping: sums.connections))
    addCalls(sums, to: &page)
    page.addProcess()
    return page.text
  }

  /// As in etcd, members are named by their ids.
  private static func addPeers(_ front: any ReplicaFront, to page: inout Page) {
    let traffic = front.traffic
    func values(
      _ label: String, _ value: (PeerTraffic) -> UInt64
    ) -> [(labels: String, value: UInt64)] {
      traffic.map { ("\(label)=\"\($0.peer)\"", value($0)) }
    }
    page.labelled(
      "etcd_network_peer_sent_bytes_total", "counter", "Bytes sent to members.",
      values("To", \.sentBytes))
    page.labelled(
      "etcd_network_peer_received_bytes_total", "counter", "Bytes that came from members.",
      values("From", \.receivedBytes))
    page.labelled(
      "etcd_network_peer_sent_failures_total", "counter", "Messages that could not be sent.",
      values("To", \.sendFailures))
    page.labelled(
      "etcd_network_active_peers", "gauge", "Members that this one is connected to.",
      traffic.map {
        (
          "Local=\"\(front.identity.member)\",Remote=\"\($0.peer)\"",
          $0.isConnected ? 1 : 0
        )
      })
    page.histogram(
      "etcd_network_peer_round_trip_time_seconds",
      "Round trips to members, as the system measures them.",
      traffic.map { ("To=\"\($0.peer)\"", $0.roundTrip) })
  }

  private static func addCalls(_ sums: LoopMetrics, to page: inout Page) {
    func labels(_ method: EtcdMethod) -> String {
      let parts = method.path.split(separator: "/")
      return "grpc_method=\"\(parts[1])\",grpc_service=\"\(parts[0])\","
        + "grpc_type=\"\(method.shape.rawValue)\""
    }
    page.labelled(
      "grpc_server_started_total", "counter", "Calls begun.",
      EtcdMethod.allCases.compactMap { method in
        let count = sums.started[method.rawValue]
        return count == 0 ? nil : (labels(method), count)
      })
    var handled: [(String, UInt64)] = []
    for method in EtcdMethod.allCases {
      for number in 0..<LoopMetrics.codes {
        let count = sums.handled[method.rawValue * LoopMetrics.codes + number]
        guard count > 0, let code = GRPCStatus.Code(rawValue: number) else { continue }
        handled.append(("grpc_code=\"\(Self.name(of: code))\"," + labels(method), count))
      }
    }
    page.labelled("grpc_server_handled_total", "counter", "Calls ended.", handled)
  }

  /// The code as Go's gRPC writes it.
  private static func name(of code: GRPCStatus.Code) -> String {
    switch code {
    case .ok: "OK"
    case .cancelled: "Canceled"
    case .unknown: "Unknown"
    case .invalidArgument: "InvalidArgument"
    case .deadlineExceeded: "DeadlineExceeded"
    case .notFound: "NotFound"
    case .alreadyExists: "AlreadyExists"
    case .permissionDenied: "PermissionDenied"
    case .resourceExhausted: "ResourceExhausted"
    case .failedPrecondition: "FailedPrecondition"
    case .aborted: "Aborted"
    case .outOfRange: "OutOfRange"
    case .unimplemented: "Unimplemented"
    case .internal: "Internal"
    case .unavailable: "Unavailable"
    case .dataLoss: "DataLoss"
    case .unauthenticated: "Unauthenticated"
    }
  }
}
