import EtcdProto
import EtcdWire
import HTTP2
import Primitives
import Replica

// The Cluster service: who takes part.

extension ServerLoop {
  func addMember(
    _ connection: GRPCServerConnection, _ stream: StreamID,
    _ request: Etcdserverpb_MemberAddRequest
  ) {
    guard PeerURL.areValid(request.peerUrls) else {
      return fail(connection, stream, .memberAdd, EtcdError.badMemberURLs)
    }
    change(
      .addMember(
        ClusterMember(
          id: chooseMemberID(), name: "", peerURLs: request.peerUrls.sorted(), clientURLs: [],
          isLearner: request.isLearner)), connection, stream, .memberAdd)
  }

  func updateMember(
    _ connection: GRPCServerConnection, _ stream: StreamID,
    _ request: Etcdserverpb_MemberUpdateRequest
  ) {
    guard PeerURL.areValid(request.peerUrls) else {
      return fail(connection, stream, .memberUpdate, EtcdError.badMemberURLs)
    }
    change(
      .updateMember(id: NodeID(request.id), peerURLs: request.peerUrls.sorted()), connection,
      stream, .memberUpdate)
  }

  func sendMemberAdded(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ member: ClusterMember
  ) {
    let status = front.status
    var response = Etcdserverpb_MemberAddResponse()
    response.header = header(revision: .zero, status.term)
    response.member = Etcdserverpb_Member(member)
    response.members = status.members.map(Etcdserverpb_Member.init)
    respond(connection, stream, .memberAdd, response)
  }

  func sendMembersChanged(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod
  ) {
    let status = front.status
    let members = status.members.map(Etcdserverpb_Member.init)
    let header = header(revision: .zero, status.term)
    switch method {
    case .memberRemove:
      var response = Etcdserverpb_MemberRemoveResponse()
      response.header = header
      response.members = members
      respond(connection, stream, method, response)
    case .memberUpdate:
      var response = Etcdserverpb_MemberUpdateResponse()
      response.header = header
      response.members = members
      respond(connection, stream, method, response)
    default:
      var response = Etcdserverpb_MemberPromoteResponse()
      response.header = header
      response.members = members
      respond(connection, stream, method, response)
    }
  }
}

extension Etcdserverpb_Member {
  init(_ member: ClusterMember) {
    self.init()
    id = member.id.rawValue
    name = member.name
    peerUrls = member.peerURLs
    clientUrls = member.clientURLs
    isLearner = member.isLearner
  }
}

/// What may stand for a member's address: a scheme, a host and a port, and nothing behind them.
enum PeerURL {
  static func areValid(_ urls: [String]) -> Bool { !urls.isEmpty && urls.allSatisfy(isValid) }

  static func isValid(_ url: String) -> Bool {
    guard
      let scheme = ["http://", "https://", "unix://", "unixs://"].first(where: url.hasPrefix)
    else { return false }
    let rest = url.dropFirst(scheme.count)
    if scheme.hasPrefix("unix") { return !rest.isEmpty }
    guard let colon = rest.lastIndex(of: ":"), colon != rest.startIndex,
      let port = UInt16(rest[rest.index(after: colon)...]), port > 0
    else { return false }
    return !rest.contains { "/?#@ ".contains($0) }
  }
}
