import Glibc
import HTTP2
import MVCC
import Primitives
import Replica

/// The metrics in Prometheus' text form, under the names that etcd's dashboards know.
enum MetricsPage {
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
    page.counter(
      "etcd_server_snapshot_apply_in_progress_total", "Snapshots being installed.", 0)
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
    addProcess(to: &page)
    return page.text
  }

  private static func addCalls(_ sums: LoopMetrics, to page: inout Page) {
    func labels(_ method: EtcdMethod) -> String {
      let parts = method.path.split(separator: "/")
      let type = method.isStreaming ? "bidi_stream" : "unary"
      return "grpc_method=\"\(parts[1])\",grpc_service=\"\(parts[0])\",grpc_type=\"\(type)\""
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

  private static func addProcess(to page: inout Page) {
    var usage = rusage()
    guard getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 else { return }
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
    page.text += """
      # HELP process_cpu_seconds_total CPU time of the process.
      # TYPE process_cpu_seconds_total counter
      process_cpu_seconds_total \(seconds(usage.ru_utime) + seconds(usage.ru_stime))

      """
    if let pages = residentPages() {
      page.gauge(
        "process_resident_memory_bytes", "Memory resident.", pages * UInt64(getpagesize()))
    }
  }

  private static func residentPages() -> UInt64? {
    guard let file = fopen("/proc/self/statm", "r") else { return nil }
    defer { fclose(file) }
    var buffer = [CChar](repeating: 0, count: 256)
    guard fgets(&buffer, Int32(buffer.count), file) != nil else { return nil }
    let text = String(
      decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    let fields = text.split(separator: " ")
    return fields.count > 1 ? UInt64(fields[1]) : nil
  }

  private struct Page {
    var text = ""

    mutating func gauge(_ name: String, _ help: String, _ value: UInt64) {
      plain(name, "gauge", help, value)
    }
    mutating func counter(_ name: String, _ help: String, _ value: UInt64) {
      plain(name, "counter", help, value)
    }
    private mutating func plain(_ name: String, _ type: String, _ help: String, _ value: UInt64) {
      text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n\(name) \(value)\n"
    }
    mutating func labelled(
      _ name: String, _ type: String, _ help: String, _ values: [(labels: String, value: UInt64)]
    ) {
      if values.isEmpty { return }
      text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
      for value in values { text += "\(name){\(value.labels)} \(value.value)\n" }
    }
  }
}
