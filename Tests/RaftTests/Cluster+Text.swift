import Primitives

@testable import Raft

// How transcripts print things.

func text(_ id: NodeID?) -> String { id.map { "\($0)" } ?? "unknown" }

func text(_ entry: Entry) -> String {
  switch entry.kind {
  case .membership:
    let membership = (try? MembershipEntry.decode(entry.payload))?.membership
    return "\(entry.index)/\(entry.term) membership \(membership.map(text) ?? "unreadable")"
  case .normal:
    let content = entry.payload.isEmpty ? "no-op" : String(decoding: entry.payload, as: UTF8.self)
    return "\(entry.index)/\(entry.term) \(content)"
  }
}

func text(_ membership: Membership) -> String {
  func list(_ ids: [NodeID]) -> String { "(" + ids.map { "\($0)" }.joined(separator: " ") + ")" }
  var parts = ["voters " + list(membership.voters)]
  if membership.isJoint { parts.append("outgoing " + list(membership.votersOutgoing)) }
  if !membership.learners.isEmpty { parts.append("learners " + list(membership.learners)) }
  if !membership.learnersNext.isEmpty { parts.append("next " + list(membership.learnersNext)) }
  if membership.leavesAutomatically { parts.append("leaves automatically") }
  return parts.joined(separator: ", ")
}

func text(_ write: Cluster.Write) -> String {
  var parts = ["ticket \(write.ticket?.sequence ?? 0)"]
  if let state = write.hardState {
    parts.append("term \(state.term) vote \(state.vote.map { "\($0)" } ?? "none")")
  }
  if !write.entries.isEmpty { parts.append(text(write.entries)) }
  return parts.joined(separator: ", ")
}

func text(_ entries: [Entry]) -> String {
  "[" + entries.map(text).joined(separator: ", ") + "]"
}

func text(_ message: Message) -> String {
  "\(message.from)->\(message.to) term \(message.term) \(text(message.body))"
}

func text(_ body: Message.Body) -> String {
  switch body {
  case .preVoteRequest(let request):
    return "pre-vote for term \(request.candidacy)? last \(request.lastIndex)/\(request.lastTerm)"
  case .voteRequest(let request):
    return "vote for term \(request.candidacy)? last \(request.lastIndex)/\(request.lastTerm)"
      + (request.isTransfer ? ", the leader asked for it" : "")
  case .preVoteResponse(let response):
    return "pre-vote for term \(response.candidacy): \(response.isGranted ? "yes" : "no")"
  case .voteResponse(let response):
    return "vote for term \(response.candidacy): \(response.isGranted ? "yes" : "no")"
  case .append(let append):
    return "append after \(append.previousIndex)/\(append.previousTerm) \(text(append.entries))"
      + " commit \(append.commit)"
  case .appendAccepted(let index): return "accepted through \(index)"
  case .appendRejected(let rejection):
    return "rejected \(rejection.rejectedIndex), at most \(rejection.hintIndex)/"
      + "\(rejection.hintTerm)"
  case .heartbeat(let heartbeat):
    return "heartbeat commit \(heartbeat.commit) round \(heartbeat.round)"
  case .heartbeatResponse(let round): return "heartbeat answer round \(round)"
  case .commit(let index): return "commit \(index)"
  case .readRequest: return "read index?"
  case .readResponse(_, let index): return "read index \(index.map { "\($0)" } ?? "refused")"
  case .proposal(let proposal):
    switch proposal.content {
    case .payloads(let payloads):
      let texts = payloads.map { String(decoding: $0, as: UTF8.self) }
      return "proposal \(proposal.context) [\(texts.joined(separator: ", "))]"
    case .membershipChange(let change): return "proposal \(proposal.context) \(change.steps)"
    }
  case .proposalRefused(let context): return "proposal \(context) refused"
  case .campaignNow: return "campaign now"
  }
}
