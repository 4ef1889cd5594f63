import EtcdProto
import HTTP2
import Primitives
import Replica

// Maintenance.Alarm, and where else alarms show.

extension ServerLoop {
  func alarm(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ request: Etcdserverpb_AlarmRequest
  ) {
    let kind = Alarm.Kind(request.alarm)
    let member = NodeID(request.memberID)
    switch (request.action, kind) {
    case (.get, _):
      front.requestRead(token: reserve(.alarmList(kind), connection, stream, .alarm), sink: sink)
    case (.activate, let kind?):
      let alarm = Alarm(kind, member: member)
      change(
        .setAlarm(alarm, isActive: true, isAutomatic: false), connection, stream, .alarm, [alarm])
    case (.deactivate, let kind?):
      let cleared = front.status.alarms.filter {
        $0.kind == kind && (member.rawValue == 0 || $0.member == member)
      }
      change(
        .setAlarm(Alarm(kind, member: member), isActive: false, isAutomatic: false), connection,
        stream, .alarm, cleared)
    default:
      // No alarm of this kind can be raised, so there is none to be cleared either.
      sendAlarms(connection, stream, [])
    }
  }

  func sendAlarms(_ connection: GRPCServerConnection, _ stream: StreamID, _ alarms: [Alarm]) {
    var response = Etcdserverpb_AlarmResponse()
    response.header = currentHeader()
    response.alarms = alarms.map { alarm in
      var shown = Etcdserverpb_AlarmMember()
      shown.memberID = alarm.member.rawValue
      shown.alarm = Etcdserverpb_AlarmType(alarm.kind)
      return shown
    }
    respond(connection, stream, .alarm, response)
  }

  /// Proposes a change of members or alarms, and answers when it was applied here.
  func change(
    _ command: ClusterCommand, _ connection: GRPCServerConnection, _ stream: StreamID,
    _ method: EtcdMethod, _ alarms: [Alarm] = []
  ) {
    front.change(
      command, token: reserve(.change(command, alarms), connection, stream, method), sink: sink)
  }

  /// A change was applied on this member.
  func changed(_ token: UInt64) {
    guard let call = take(token), case .change(let command, let alarms) = call.purpose,
      let connection = call.connection
    else { return }
    switch command {
    case .setAlarm: sendAlarms(connection, call.stream, alarms)
    case .addMember(let member): sendMemberAdded(connection, call.stream, member)
    case .removeMember, .updateMember, .promoteMember:
      sendMembersChanged(connection, call.stream, call.method)
    case .publish, .announceLevels, .setLevel: break
    }
  }
}

extension Alarm.Kind {
  init?(_ type: Etcdserverpb_AlarmType) {
    switch type {
    case .nospace: self = .noSpace
    case .corrupt: self = .corrupt
    default: return nil
    }
  }

  /// As etcd writes it.
  var name: String {
    switch self {
    case .noSpace: "NOSPACE"
    case .corrupt: "CORRUPT"
    }
  }
}

extension Etcdserverpb_AlarmType {
  init(_ kind: Alarm.Kind) {
    switch kind {
    case .noSpace: self = .nospace
    case .corrupt: self = .corrupt
    }
  }
}

extension Alarm {
  /// As it stands among a status' errors, the blank at the end included.
  var statusText: String { "memberID:\(member.rawValue) alarm:\(kind.name) " }
}
