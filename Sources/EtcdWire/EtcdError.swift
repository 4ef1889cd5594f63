/// Every error that etcd's servers answer with, each with its gRPC status and exact text.
///
/// Clients compare the texts, so they are part of the protocol. The statuses are those of etcd 3.6 and
/// later (3.5 still said `UNAVAILABLE` of `notSupportedForLearner` and `notCapable`).
/// Source: etcd `api/v3rpc/rpctypes`.
public enum EtcdError: UInt8, Error, Hashable, Sendable, CaseIterable, CustomStringConvertible {
  case emptyKey
  case keyNotFound
  case valueProvided
  case leaseProvided
  case tooManyOperations
  case duplicateKey
  case invalidClientAPIVersion
  case invalidSortOption
  case compacted
  case futureRevision
  case noSpace
  case leaseNotFound
  case leaseExists
  case leaseTimeToLiveTooLarge
  case watchCanceled
  case memberExists
  case peerURLExists
  case notEnoughStartedMembers
  case badMemberURLs
  case memberNotFound
  case memberNotLearner
  case learnerNotReady
  case tooManyLearners
  case clusterIDMismatch
  case requestTooLarge
  case tooManyRequests
  case rootUserNotExist
  case rootRoleNotExist
  case userAlreadyExists
  case userEmpty
  case userNotFound
  case roleAlreadyExists
  case roleNotFound
  case roleEmpty
  case authenticationFailed
  case permissionNotGiven
  case permissionDenied
  case roleNotGranted
  case permissionNotGranted
  case authNotEnabled
  case invalidAuthToken
  case invalidAuthManagement
  case oldAuthRevision
  case noLeader
  case notLeader
  case leaderChanged
  case notCapable
  case stopped
  case timeout
  case timeoutDueToLeaderFailure
  case timeoutDueToConnectionLost
  case timeoutWaitingForAppliedIndex
  case unhealthy
  case corrupt
  case notSupportedForLearner
  case badLeaderTransferee
  case wrongDowngradeVersionFormat
  case invalidDowngradeTargetVersion
  case clusterVersionUnavailable
  case downgradeInProcess
  case noInflightDowngrade
  case canceled
  case deadlineExceeded
  case rangeStreamSortOrder
  case rangeStreamRevisionFilter

  public var description: String { text }

  /// The gRPC status.
  public var status: Status { Self.table[Int(rawValue)].status }

  /// The text that follows the status.
  public var text: String { Self.table[Int(rawValue)].text }

  /// The error with this text, as clients find out which one they got. O(number of errors).
  public init?(text: String) {
    guard let found = Self.allCases.first(where: { $0.text == text }) else { return nil }
    self = found
  }

  private typealias Row = (error: EtcdError, status: Status, text: String)

  /// In the order of the cases; a test holds it to that.
  private static let table: [Row] = [
    (.emptyKey, .invalidArgument, "etcdserver: key is not provided"),
    (.keyNotFound, .invalidArgument, "etcdserver: key not found"),
    (.valueProvided, .invalidArgument, "etcdserver: value is provided"),
    (.leaseProvided, .invalidArgument, "etcdserver: lease is provided"),
    (.tooManyOperations, .invalidArgument, "etcdserver: too many operations in txn request"),
    (.duplicateKey, .invalidArgument, "etcdserver: duplicate key given in txn request"),
    (.invalidClientAPIVersion, .invalidArgument, "etcdserver: invalid client api version"),
    (.invalidSortOption, .invalidArgument, "etcdserver: invalid sort option"),
    (.compacted, .outOfRange, "etcdserver: mvcc: required revision has been compacted"),
    (.futureRevision, .outOfRange, "etcdserver: mvcc: required revision is a future revision"),
    (.noSpace, .resourceExhausted, "etcdserver: mvcc: database space exceeded"),
    (.leaseNotFound, .notFound, "etcdserver: requested lease not found"),
    (.leaseExists, .failedPrecondition, "etcdserver: lease already exists"),
    (.leaseTimeToLiveTooLarge, .outOfRange, "etcdserver: too large lease TTL"),
    (.watchCanceled, .cancelled, "etcdserver: watch canceled"),
    (.memberExists, .failedPrecondition, "etcdserver: member ID already exist"),
    (.peerURLExists, .failedPrecondition, "etcdserver: Peer URLs already exists"),
    (
      .notEnoughStartedMembers, .failedPrecondition,
      "etcdserver: re-configuration failed due to not enough started members"
    ),
    (.badMemberURLs, .invalidArgument, "etcdserver: given member URLs are invalid"),
    (.memberNotFound, .notFound, "etcdserver: member not found"),
    (.memberNotLearner, .failedPrecondition, "etcdserver: can only promote a learner member"),
    (
      .learnerNotReady, .failedPrecondition,
      "etcdserver: can only promote a learner member which is in sync with leader"
    ),
    (.tooManyLearners, .failedPrecondition, "etcdserver: too many learner members in cluster"),
    (.clusterIDMismatch, .failedPrecondition, "etcdserver: cluster ID mismatch"),
    (.requestTooLarge, .invalidArgument, "etcdserver: request is too large"),
    (.tooManyRequests, .resourceExhausted, "etcdserver: too many requests"),
    (.rootUserNotExist, .failedPrecondition, "etcdserver: root user does not exist"),
    (.rootRoleNotExist, .failedPrecondition, "etcdserver: root user does not have root role"),
    (.userAlreadyExists, .failedPrecondition, "etcdserver: user name already exists"),
    (.userEmpty, .invalidArgument, "etcdserver: user name is empty"),
    (.userNotFound, .failedPrecondition, "etcdserver: user name not found"),
    (.roleAlreadyExists, .failedPrecondition, "etcdserver: role name already exists"),
    (.roleNotFound, .failedPrecondition, "etcdserver: role name not found"),
    (.roleEmpty, .invalidArgument, "etcdserver: role name is empty"),
    (
      .authenticationFailed, .invalidArgument,
      "etcdserver: authentication failed, invalid user ID or password"
    ),
    (.permissionNotGiven, .invalidArgument, "etcdserver: permission not given"),
    (.permissionDenied, .permissionDenied, "etcdserver: permission denied"),
    (.roleNotGranted, .failedPrecondition, "etcdserver: role is not granted to the user"),
    (
      .permissionNotGranted, .failedPrecondition,
      "etcdserver: permission is not granted to the role"
    ),
    (.authNotEnabled, .failedPrecondition, "etcdserver: authentication is not enabled"),
    (.invalidAuthToken, .unauthenticated, "etcdserver: invalid auth token"),
    (.invalidAuthManagement, .invalidArgument, "etcdserver: invalid auth management"),
    (.oldAuthRevision, .invalidArgument, "etcdserver: revision of auth store is old"),
    (.noLeader, .unavailable, "etcdserver: no leader"),
    (.notLeader, .failedPrecondition, "etcdserver: not leader"),
    (.leaderChanged, .unavailable, "etcdserver: leader changed"),
    (.notCapable, .failedPrecondition, "etcdserver: not capable"),
    (.stopped, .unavailable, "etcdserver: server stopped"),
    (.timeout, .unavailable, "etcdserver: request timed out"),
    (
      .timeoutDueToLeaderFailure, .unavailable,
      "etcdserver: request timed out, possibly due to previous leader failure"
    ),
    (
      .timeoutDueToConnectionLost, .unavailable,
      "etcdserver: request timed out, possibly due to connection lost"
    ),
    (
      .timeoutWaitingForAppliedIndex, .unavailable,
      "etcdserver: request timed out, waiting for the applied index took too long"
    ),
    (.unhealthy, .unavailable, "etcdserver: unhealthy cluster"),
    (.corrupt, .dataLoss, "etcdserver: corrupt cluster"),
    (.notSupportedForLearner, .failedPrecondition, "etcdserver: rpc not supported for learner"),
    (.badLeaderTransferee, .failedPrecondition, "etcdserver: bad leader transferee"),
    (
      .wrongDowngradeVersionFormat, .invalidArgument,
      "etcdserver: wrong downgrade target version format"
    ),
    (
      .invalidDowngradeTargetVersion, .invalidArgument,
      "etcdserver: invalid downgrade target version"
    ),
    (
      .clusterVersionUnavailable, .failedPrecondition,
      "etcdserver: cluster version not found during downgrade"
    ),
    (
      .downgradeInProcess, .failedPrecondition,
      "etcdserver: cluster has a downgrade job in progress"
    ),
    (.noInflightDowngrade, .failedPrecondition, "etcdserver: no inflight downgrade job"),
    (.canceled, .cancelled, "etcdserver: request canceled"),
    (.deadlineExceeded, .deadlineExceeded, "etcdserver: context deadline exceeded"),
    (.rangeStreamSortOrder, .unimplemented, "RangeStream does not support custom sort orders"),
    (.rangeStreamRevisionFilter, .unimplemented, "RangeStream does not support revision filters"),
  ]

  /// Whether the table lists every error once, in the order of the cases.
  static var tableIsInOrder: Bool { table.map(\.error) == Array(allCases) }
}

extension EtcdError {
  /// gRPC's status codes, by their numbers on the wire. Source: the gRPC specification,
  /// `statuscodes.md`.
  public enum Status: UInt8, Hashable, Sendable, CaseIterable {
    case ok = 0
    case cancelled = 1
    case unknown = 2
    case invalidArgument = 3
    case deadlineExceeded = 4
    case notFound = 5
    case alreadyExists = 6
    case permissionDenied = 7
    case resourceExhausted = 8
    case failedPrecondition = 9
    case aborted = 10
    case outOfRange = 11
    case unimplemented = 12
    case `internal` = 13
    case unavailable = 14
    case dataLoss = 15
    case unauthenticated = 16
  }
}
