import Foundation
import TestKit
import Testing

/// What a user of the store sees, against the binary that users get.
///
/// Everything here runs real processes on real ports. The tests run one after another, so that a loaded
/// machine does not make members miss their time-outs. What a machine lacks (the real etcd, Python's grpcio)
/// is skipped with the reason; `Scripts/test` provides all of it.
@Suite(.serialized, .enabled(if: Peers.martlet != nil, "build first: swift build -c release"))
enum StoreConformance {}

/// Reasons of skipped tests.
enum Missing {
  static let etcd: Comment = "needs the real etcd: Scripts/fetch-peers"
  static let etcdctl: Comment = "needs etcdctl 3.5.1: Scripts/fetch-peers"
  static let debianEtcdctl: Comment = "needs Debian's etcd-client"
  static let python: Comment = "needs Python with grpcio: Scripts/fetch-peers"
}
