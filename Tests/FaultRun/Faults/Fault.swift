/// What is done to the cluster, one at a time or two together.
enum Fault: String, CaseIterable, Sendable {
  /// `kill -9`, and a start some time later.
  case killLeader = "kill-leader"
  case killOne = "kill-one"
  case killAll = "kill-all"
  /// SIGSTOP, and SIGCONT some time later: the process knows nothing of the time between.
  case pauseLeader = "pause-leader"
  case pauseOne = "pause-one"
  /// No packets between members: one alone, two groups, one direction, one pair.
  case isolateLeader = "isolate-leader"
  case isolateOne = "isolate-one"
  case divide
  case oneWay = "one-way"
  case pair
  /// Some packets are lost, or all wait.
  case loss
  case slow
  /// What operators do: restart one after the other, hand over, replace a member whose disk is gone.
  case rollingRestart = "rolling-restart"
  case transfer
  case replace
  /// A member's disk has no room left.
  case fullDisk = "full-disk"
  /// Killed, and the disk forgets some of what wasn't synced: one member, or all.
  case losePower = "lose-power"
  case loseAllPower = "lose-all-power"
  /// Every sync takes long, or fails.
  case slowDisk = "slow-disk"
  case failSync = "fail-sync"

  /// Whether it is the network's, so that another fault can come on top.
  var isWeather: Bool {
    switch self {
    case .isolateLeader, .isolateOne, .divide, .oneWay, .pair, .loss, .slow: true
    default: false
    }
  }

  /// Whether others may be under way at the same time: not with what needs a quorum to be done at all.
  var combines: Bool {
    switch self {
    case .killLeader, .killOne, .killAll, .pauseLeader, .pauseOne: true
    default: false
    }
  }

  /// Whether it is made by a disk that the run itself provides.
  var needsLossyDisk: Bool {
    switch self {
    case .losePower, .loseAllPower, .slowDisk, .failSync: true
    default: false
    }
  }
}
