import Primitives

/// Every bound of the replica, with its reason.
public enum ReplicaLimits {
  /// Bytes of client commands that may wait for the log on one member. Past it clients are told to
  /// slow down; four seconds of the disk's measured rate would already be a queue nobody waits for.
  public static let pendingProposalBytes = 64 << 20
  /// Commands that may wait on one member, whatever their size: each holds a token and a stream.
  public static let pendingProposals = 200_000
  /// Bytes of commands in one log entry. A batch is closed past this, so an entry is at most this plus
  /// one request; large enough that per-entry work vanishes, small enough to interleave with heartbeats.
  public static let entryBytes = 1 << 20
  /// Entries of followers' clients that may wait for the leader's log, each of bounded size.
  public static let forwardedEntries = 64
  /// Reads that may wait for a read index on one member.
  public static let pendingReads = 200_000
  /// Tokens of logins that a member remembers, some 150 bytes each.
  public static let loginTokens = 100_000
  /// Leases that one entry may expire (design: expiry goes in bounded batches).
  public static let leasesPerExpiry = 256
  /// Leases whose remaining time one entry may checkpoint.
  public static let leasesPerCheckpoint = 1_000
  /// Lease questions on their way to the leader.
  public static let pendingLeaseQueries = 100_000
  /// Bytes of one piece of a snapshot file on its way to a member.
  public static let snapshotChunkBytes = 1 << 20
  /// How long a follower may leave a piece of a snapshot unanswered before the transfer starts anew.
  public static let snapshotSilence = Duration.seconds(10)
  /// Changes of members and alarms that may wait on one member: operators make one at a time.
  public static let pendingClusterChanges = 256
  /// How often a member whose alarm does not fit its state says so again.
  public static let alarmCheckInterval = Duration.seconds(1)
  /// How close to the leader a learner must be to be promoted by an operator: etcd's nine tenths of the log.
  public static let caughtUpShare = 0.9
  /// How many entries a new voter may lack when it becomes one in Raft: less than a second's worth.
  public static let entriesBehindAtPromotion: UInt64 = 1_000
  /// How long to wait before preparing a log segment is tried again, after the disk was full or failed.
  public static let logMaintenanceRetry = Duration.seconds(10)
  /// Slices of physical compaction between two batches of work, so that no batch waits for it.
  public static let maintenanceRecordsPerSlice = 2_000
}
