import HTTP2
import Primitives

/// What an operator sets of the client port, with etcd's defaults.
public struct EtcdServerSettings: Sendable {
  public init() {}

  /// The etcd version that we say we are: clients choose features by it (Kubernetes asks for watch
  /// progress from 3.5.13 on). Semantics and texts follow this version's API.
  public static let reportedVersion = "3.5.17"
  /// The cluster version that goes with it.
  public static let reportedClusterVersion = "3.5.0"

  /// `--max-request-bytes`: the largest request that is proposed.
  public var maxRequestBytes = 1_572_864
  /// `--max-concurrent-streams`
  public var maximumStreams = HTTP2Limits().maxConcurrentStreams
  /// `--grpc-keepalive-min-time`: how often a client may PING.
  public var minimumPingInterval = Duration.seconds(5)
  /// `--grpc-keepalive-interval`: silence after which a client is PINGed.
  ///
  /// etcd's is two hours; a dead client's watches cost memory, so here it is shorter.
  public var keepAliveInterval = HTTP2Limits().keepAliveInterval
  /// `--grpc-keepalive-timeout`: how long it may take to answer.
  public var keepAliveTimeout = HTTP2Limits().keepAliveTimeout
  /// `--enable-grpc-gateway`
  public var servesGateway = true
  /// `--max-txn-ops`
  public var maxTxnOperations = 128
  /// The shortest life of a lease in seconds: one and a half election time-outs, rounded up.
  public var minimumLeaseSeconds: Int64 = 2
  /// `--auth-token`
  public var authTokens = AuthTokenSettings.simple
  /// `--bcrypt-cost`
  public var bcryptCost = 10
  /// `--client-cert-auth`: a verified certificate's common name is the user of a call without a token.
  public var namesUsersByCertificate = false
  /// `--watch-progress-notify-interval`: how long a watcher that asked for it may be silent.
  public var watchProgressInterval = Duration.seconds(600)
}

/// Every bound of the client port, and why.
enum EtcdServerLimits {
  /// What gRPC adds to a request of the largest size before it is refused unread; etcd's constant.
  static let messageOverheadBytes = 512 << 10
  /// Command bytes collected from one turn of an event loop before they are handed to the writer: half a
  /// log entry, so that entries fill evenly and the writer starts while we still decode.
  static let batchBytes = 512 << 10
  /// How often calls are checked for their deadlines and streams for the loss of the leader. Clients keep
  /// their own deadlines exactly; ours only free what they left behind.
  static let housekeepingInterval = Duration.milliseconds(500)
  /// Housekeeping turns without a leader after which streams that require one are ended: about etcd's three
  /// election time-outs.
  static let turnsWithoutLeader = 6
  /// Bytes waiting on a watch stream above which its watchers leave the writer and catch up later, from
  /// a view, at the client's pace.
  static let watchQueueBytes = 4 << 20
  /// Bytes and events of one step of catching up, so that one watcher holds an event loop for about a
  /// millisecond.
  static let catchUpBytes = 256 << 10
  static let catchUpEvents = 4_096
  /// Bytes of one message of a snapshot, and of those that may wait for its client.
  static let snapshotPieceBytes = 64 << 10
  static let snapshotQueueBytes = 1 << 20
  /// Event bytes of one watch response that holds several revisions.
  static let watchResponseBytes = 1 << 20
  /// Calls of the lock and election services that wait on one event loop; each takes about a kilobyte.
  static let coordinationCalls = 100_000
  /// Bytes of one message of a RangeStream, and of those that may wait for its client.
  static let rangePieceBytes = 512 << 10
  static let rangeQueueBytes = 1 << 20
  /// How long a client may read nothing of a RangeStream, which keeps a view of the store for it.
  static let rangeStallTimeout = Duration.seconds(60)
  /// Watchers of one stream. etcd has no bound; each takes some 300 bytes here, and more at the writer.
  static let watchersPerStream = 1_000_000
  /// Passwords that wait to be hashed or checked: some ten seconds' worth.
  static let waitingPasswords = 256
  /// Bytes of a credential; etcd's are 20 to a few hundred.
  static let credentialBytes = 8 << 10
  /// Different credentials that an event loop keeps apart before it forgets them all.
  static let credentials = 1_024
  /// How often a login whose user was changed meanwhile is checked anew.
  static let loginAttempts = 3
  /// Messages of a watch stream that wait for the member to learn of the stream's login.
  static let heldMessages = 1_000
  /// Bytes held for all clients together, of answers that they don't read and requests that they don't finish:
  /// beyond, the connections that hold most of them end. Some thirty answers of the largest keys there are, and
  /// room beside the data on the smallest machine that anyone should run a store on.
  static let heldBytes = 1 << 30
  /// How long a connection may be open without having said what it speaks.
  static let firstBytesTimeout = Duration.seconds(30)
  /// How long an HTTP/1.1 client may take over one request, and a connection be kept without any; etcd's
  /// read time-out.
  static let httpIdleTimeout = Duration.seconds(300)
  /// Bytes of an HTTP/1.1 request's body, which no endpoint reads.
  static let httpBodyBytes = 64 << 10
}
