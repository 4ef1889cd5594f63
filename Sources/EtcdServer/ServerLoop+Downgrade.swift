import EtcdProto
import EtcdWire
import HTTP2

extension ServerLoop {
  /// Maintenance.Downgrade. There is no older version whose files or log ours could become, so no target
  /// is a valid one and no downgrade is ever under way; the errors are etcd's.
  func downgrade(
    _ connection: GRPCServerConnection, _ stream: StreamID,
    _ request: Etcdserverpb_DowngradeRequest
  ) {
    let error: EtcdError
    switch request.action {
    case .cancel: error = .noInflightDowngrade
    default:
      let parts = request.version.split(separator: ".", omittingEmptySubsequences: false)
      let isVersion = (2...3).contains(parts.count) && parts.allSatisfy { UInt32($0) != nil }
      error = isVersion ? .invalidDowngradeTargetVersion : .wrongDowngradeVersionFormat
    }
    fail(connection, stream, .downgrade, error)
  }
}
