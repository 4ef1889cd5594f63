import MVCC
import Primitives

// The quota. A member whose state has grown to its quota takes no more from its own clients at once, and
// raises an alarm through the log, which every member heeds from the same entry on. When compaction and
// deletes have made room again, a tenth of the quota, it clears the alarm by itself.

extension ReplicaCore {
  /// Whether this member's state has reached the quota.
  var isOverQuota: Bool {
    guard let quota = settings.quotaBytes else { return false }
    #if PLANTED_BUGS
      if PlantedBug.ignoredQuota.isPlanted { return false }
    #endif
    return UInt64(clamping: store.allocatedBytes) >= quota
  }

  /// What this member refuses to its clients now.
  var restrictions: Restrictions {
    var restrictions: Restrictions = []
    if cluster.has(.noSpace) || isOverQuota { restrictions.insert(.noSpace) }
    if cluster.has(.corrupt) { restrictions.insert(.corrupt) }
    if cluster.member(identity.member)?.isLearner == true { restrictions.insert(.learner) }
    return restrictions
  }

  /// Raises this member's alarm, or clears what it raised. Cheap: it is asked after every batch.
  mutating func checkQuota() {
    guard let quota = settings.quotaBytes, now >= nextAlarmCheck, leader != nil else { return }
    let alarm = Alarm(.noSpace, member: identity.member)
    let raised = cluster.raised(alarm)
    let bytes = UInt64(clamping: store.allocatedBytes)
    if isOverQuota {
      bytesAtAlarm = quota
      if raised == nil { setOwnAlarm(alarm, isActive: true) }
    } else if raised?.isAutomatic == true {
      // A write that would have crossed the quota raises it too, from wherever the state is then.
      let reached = bytesAtAlarm ?? bytes
      bytesAtAlarm = reached
      if bytes <= max(reached - min(reached, quota / 10), quota / 2) {
        setOwnAlarm(alarm, isActive: false)
      }
    } else {
      bytesAtAlarm = nil
    }
  }

  /// Something is refused: compaction, or readers that let old views go, may have made room meanwhile.
  mutating func noteSpace() {
    // The published view may be the last one to show what compaction took out; a new one lets it go.
    hasApplied = true
  }

  mutating func setOwnAlarm(_ alarm: Alarm, isActive: Bool) {
    // Lost proposals are made again.
    nextAlarmCheck = now.advanced(by: ReplicaLimits.alarmCheckInterval)
    let command = ClusterCommand.setAlarm(alarm, isActive: isActive, isAutomatic: true)
    if alarm.kind == .noSpace {
      effects.warnings.append(
        isActive
          ? "the state has reached the quota of \(settings.quotaBytes ?? 0) bytes: writes are refused until "
            + "keys are deleted and the history compacted"
          : "the state is well below the quota again: writes are taken")
    }
    if role == .leader {
      changes.queued.append(
        .init(
          command: command, origin: .nobody, deadline: now.advanced(by: settings.requestTimeout)))
      proposeChanges()
    } else if let leader {
      effects.sends.append((leader, .clusterRequest(id: 0, command: command.encode())))
    }
  }
}

extension ClusterState {
  /// What the state machine refuses while alarms are raised.
  var refusals: Refusals {
    var refusals: Refusals = []
    if has(.noSpace) { refusals.insert(.growth) }
    if has(.corrupt) { refusals.insert(.everything) }
    return refusals
  }
}
