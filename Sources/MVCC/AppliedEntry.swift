import Primitives

/// Why a command changed nothing. Deterministic: every member comes to the same answer. Each maps
/// to one of etcd's errors, named in its comment.
public enum ApplyError: UInt8, Error, Hashable, Sendable {
  /// "key is not provided"
  case emptyKey
  /// "key not found": a put that keeps the value or lease of a key that doesn't exist, or an empty
  /// operation in a transaction
  case keyNotFound
  /// "required revision has been compacted"
  case compacted
  /// "required revision is a future revision"
  case futureRevision
  /// "requested lease not found"
  case leaseNotFound
  /// "lease already exists"
  case leaseExists
  /// "too large lease TTL"
  case leaseTooLong
  /// The request is not valid protobuf, or nested too deeply. A server refuses it before proposing.
  case malformedRequest
  /// This version of the store doesn't know the command. Servers propose only what the cluster's
  /// agreed version knows.
  case unsupportedCommand
  /// "root user does not exist"
  case rootUserNotExist
  /// "root user does not have root role"
  case rootRoleNotExist
  /// "user name already exists"
  case userAlreadyExists
  /// "user name is empty": a request without a credential, too
  case userEmpty
  /// "user name not found"
  case userNotFound
  /// "role name already exists"
  case roleAlreadyExists
  /// "role name not found"
  case roleNotFound
  /// "role name is empty"
  case roleEmpty
  /// "authentication failed, invalid user ID or password"
  case authenticationFailed
  /// "permission denied"
  case permissionDenied
  /// "role is not granted to the user"
  case roleNotGranted
  /// "permission is not granted to the role"
  case permissionNotGranted
  /// "authentication is not enabled"
  case authNotEnabled
  /// "invalid auth management": what would lock everybody out, or a permission for no key
  case invalidAuthManagement
  /// "revision of auth store is old": users or roles changed since the client was let in
  case oldAuthRevision
  /// "database space exceeded": the store takes nothing that makes it larger
  case noSpace
  /// "corrupt cluster": the store takes no writes at all
  case corrupt
}

/// What one command gave, for the client that sent it.
public struct CommandResult: Sendable {
  public enum Body: Sendable {
    /// The response is its header and nothing else.
    case empty
    /// The response message without its header. Protobuf fields may be concatenated, so the server
    /// writes the header (field 1) and these bytes after it.
    case encoded([UInt8])
    case error(ApplyError)
  }

  /// The store's revision after the command, for the response's header.
  public var revision: Revision
  public var body: Body

  @inlinable public init(revision: Revision, body: Body) {
    self.revision = revision
    self.body = body
  }
}

/// What applying one entry of the log did.
public struct AppliedEntry: Sendable {
  /// One a command, in order; empty unless they were asked for.
  public var results: [CommandResult] = []
  public var proposer: NodeID = NodeID(0)
  /// The sequence of the first command; see ``CommandBatch/Header``.
  public var firstSequence: UInt64 = 0
  /// The revisions that the entry made.
  public var events: EventBatch
  /// What happened to leases, in order, for the leader's deadlines.
  public var leaseEffects: [LeaseEffect] = []
  /// What happened to logins, in order, for the tokens that members hold.
  public var authEffects: [AuthEffect] = []
}

/// A run of revisions whose events are to be delivered: those after `after` up to and with
/// `through`.
///
/// It holds no events: they are read from the view that was published after the entry. Batches of
/// consecutive entries can be joined by taking the first one's `after` and the last one's
/// `through`.
public struct EventBatch: Hashable, Sendable {
  public var after: Revision
  public var through: Revision

  @inlinable public init(after: Revision, through: Revision) {
    self.after = after
    self.through = through
  }

  @inlinable public var isEmpty: Bool { through <= after }
}

/// A change of a lease that the leader's deadlines depend on.
public enum LeaseEffect: Hashable, Sendable {
  case granted(LeaseID, seconds: Int64)
  /// Revoked by a client or expired.
  case revoked(LeaseID)
  case checkpointed(LeaseID, remaining: Int64)
}

/// A lease as the replicated state knows it. Its deadline is the leader's alone.
public struct LeaseStatus: Hashable, Sendable {
  public var id: LeaseID
  /// The time to live that was granted, in seconds.
  public var granted: Int64
  /// What the last checkpoint left of it, in seconds; as granted if there was none.
  public var remaining: Int64
  /// How many keys are attached.
  public var keyCount: Int
}
