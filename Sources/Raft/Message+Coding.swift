import Primitives

// The wire form of messages. The table is in Docs/Formats/Raft.md; the frame around a message, with
// its length, cluster and checksum, belongs to the transport.

extension Message {
  /// The version that this code writes and the only one that it reads.
  public static let formatVersion: UInt8 = 1
  static let headerSize = 32
  static let entryHeaderSize = 16

  /// The exact size of the wire form, in bytes.
  public var encodedSize: Int {
    switch body {
    case .append(let append):
      var size = Message.headerSize + 24 + Message.entryHeaderSize * append.entries.count
      for entry in append.entries { size &+= entry.payload.count }
      return size
    case .proposal(let proposal):
      switch proposal.content {
      case .payloads(let payloads):
        return payloads.reduce(Message.headerSize + 8) { $0 + 4 + $1.count }
      case .membershipChange(let change): return Message.headerSize + 8 + change.encodedSize
      }
    case .preVoteRequest, .voteRequest, .appendRejected: return Message.headerSize + 24
    case .heartbeat, .readResponse: return Message.headerSize + 16
    case .preVoteResponse, .voteResponse, .appendAccepted, .heartbeatResponse, .commit,
      .readRequest, .proposalRefused:
      return Message.headerSize + 8
    case .campaignNow: return Message.headerSize
    }
  }

  /// Appends the wire form. O(size).
  public func encode(into bytes: inout [UInt8]) {
    bytes.reserveCapacity(bytes.count + encodedSize)
    switch body {
    case .preVoteRequest(let request): encode(request, kind: .preVoteRequest, into: &bytes)
    case .voteRequest(let request): encode(request, kind: .voteRequest, into: &bytes)
    case .preVoteResponse(let response): encode(response, kind: .preVoteResponse, into: &bytes)
    case .voteResponse(let response): encode(response, kind: .voteResponse, into: &bytes)
    case .append(let append):
      encodeHeader(.append, count: append.entries.count, into: &bytes)
      bytes.append(littleEndian: append.previousIndex.rawValue)
      bytes.append(littleEndian: append.previousTerm.rawValue)
      bytes.append(littleEndian: append.commit.rawValue)
      for entry in append.entries {
        bytes.append(littleEndian: entry.term.rawValue)
        bytes.append(littleEndian: UInt32(entry.payload.count))
        bytes.append(littleEndian: UInt32(entry.kind.rawValue))
        bytes.append(contentsOf: entry.payload)
      }
    case .appendAccepted(let index): encode(index.rawValue, kind: .appendAccepted, into: &bytes)
    case .appendRejected(let rejection):
      encodeHeader(.appendRejected, into: &bytes)
      bytes.append(littleEndian: rejection.rejectedIndex.rawValue)
      bytes.append(littleEndian: rejection.hintIndex.rawValue)
      bytes.append(littleEndian: rejection.hintTerm.rawValue)
    case .heartbeat(let heartbeat):
      encodeHeader(.heartbeat, into: &bytes)
      bytes.append(littleEndian: heartbeat.commit.rawValue)
      bytes.append(littleEndian: heartbeat.round)
    case .heartbeatResponse(let round): encode(round, kind: .heartbeatResponse, into: &bytes)
    case .commit(let index): encode(index.rawValue, kind: .commit, into: &bytes)
    case .readRequest(let batch): encode(batch, kind: .readRequest, into: &bytes)
    case .readResponse(let batch, let index):
      encodeHeader(.readResponse, flags: index == nil ? 0 : 1, into: &bytes)
      bytes.append(littleEndian: batch)
      bytes.append(littleEndian: index?.rawValue ?? 0)
    case .proposal(let proposal):
      switch proposal.content {
      case .payloads(let payloads):
        encodeHeader(.proposal, count: payloads.count, into: &bytes)
        bytes.append(littleEndian: proposal.context)
        for payload in payloads {
          bytes.append(littleEndian: UInt32(payload.count))
          bytes.append(contentsOf: payload)
        }
      case .membershipChange(let change):
        encodeHeader(.proposal, flags: 1, into: &bytes)
        bytes.append(littleEndian: proposal.context)
        change.encode(into: &bytes)
      }
    case .proposalRefused(let context): encode(context, kind: .proposalRefused, into: &bytes)
    case .campaignNow: encodeHeader(.campaignNow, into: &bytes)
    }
  }

  /// Reads one message that fills `bytes`; payloads are copied out. Never traps, whatever the bytes are.
  public static func decode(
    _ bytes: UnsafeRawBufferPointer
  ) throws(RaftDecodingError) -> Message {
    var reader = CheckedReader(bytes)
    try reader.version(formatVersion)
    guard let kind = Kind(rawValue: try reader.integer(UInt8.self)) else {
      throw reader.failure(.unknownField)
    }
    let flags = try reader.integer(UInt16.self)
    guard flags & ~kind.knownFlags == 0 else { throw reader.failure(.unknownField) }
    let count = try reader.integer(UInt32.self)
    guard count == 0 || kind == .append || kind == .proposal else {
      throw reader.failure(.unknownField)
    }
    let from = NodeID(try reader.integer(UInt64.self))
    let to = NodeID(try reader.integer(UInt64.self))
    let term = try reader.term()
    let body = try decodeBody(kind, flags: flags, count: Int(count), term: term, from: &reader)
    try reader.end()
    return Message(from: from, to: to, term: term, body: body)
  }

  private static func decodeBody(
    _ kind: Kind, flags: UInt16, count: Int, term: Term, from reader: inout CheckedReader
  ) throws(RaftDecodingError) -> Body {
    switch kind {
    case .preVoteRequest: return .preVoteRequest(try decodeVoteRequest(flags, from: &reader))
    case .voteRequest: return .voteRequest(try decodeVoteRequest(flags, from: &reader))
    case .preVoteResponse:
      return .preVoteResponse(
        VoteResponse(candidacy: try reader.term(), isGranted: flags != 0))
    case .voteResponse:
      return .voteResponse(VoteResponse(candidacy: try reader.term(), isGranted: flags != 0))
    case .append: return .append(try decodeAppend(count: count, term: term, from: &reader))
    case .appendAccepted: return .appendAccepted(try reader.logIndex())
    case .appendRejected:
      return .appendRejected(
        AppendRejection(
          rejectedIndex: try reader.logIndex(), hintIndex: try reader.logIndex(),
          hintTerm: try reader.term()))
    case .heartbeat:
      return .heartbeat(
        Heartbeat(commit: try reader.logIndex(), round: try reader.integer(UInt64.self)))
    case .heartbeatResponse: return .heartbeatResponse(round: try reader.integer(UInt64.self))
    case .commit: return .commit(try reader.logIndex())
    case .readRequest: return .readRequest(batch: try reader.integer(UInt64.self))
    case .readResponse:
      let batch = try reader.integer(UInt64.self)
      let index = try reader.logIndex()
      guard flags != 0 || index == .zero else { throw reader.failure(.outOfRange) }
      return .readResponse(batch: batch, index: flags == 0 ? nil : index)
    case .proposal:
      let context = try reader.integer(UInt64.self)
      if flags != 0 {
        guard count == 0 else { throw reader.failure(.unknownField) }
        let change = try MembershipChange.decode(reader.bytes(reader.remaining))
        return .proposal(ForwardedProposal(context: context, content: .membershipChange(change)))
      }
      guard count <= reader.remaining / 4 else { throw reader.failure(.outOfRange) }
      var payloads: [[UInt8]] = []
      payloads.reserveCapacity(count)
      for _ in 0..<count { payloads.append(try reader.payload()) }
      return .proposal(ForwardedProposal(context: context, content: .payloads(payloads)))
    case .proposalRefused: return .proposalRefused(context: try reader.integer(UInt64.self))
    case .campaignNow: return .campaignNow
    }
  }

  private static func decodeVoteRequest(
    _ flags: UInt16, from reader: inout CheckedReader
  ) throws(RaftDecodingError) -> VoteRequest {
    VoteRequest(
      candidacy: try reader.term(), lastIndex: try reader.logIndex(),
      lastTerm: try reader.term(), isTransfer: flags != 0)
  }

  private static func decodeAppend(
    count: Int, term: Term, from reader: inout CheckedReader
  ) throws(RaftDecodingError) -> Append {
    let previousIndex = try reader.logIndex()
    let previousTerm = try reader.term()
    let commit = try reader.logIndex()
    // The count is checked against the bytes that are there before anything is reserved for it.
    guard count <= reader.remaining / entryHeaderSize,
      previousIndex.rawValue <= UInt64(Int64.max) - UInt64(count)
    else { throw reader.failure(.outOfRange) }
    var entries: [Entry] = []
    entries.reserveCapacity(count)
    var index = previousIndex
    var lastTerm = previousTerm
    for _ in 0..<count {
      let entryTerm = try reader.term()
      // Terms never fall along a log, and no entry is newer than its sender.
      guard entryTerm >= lastTerm, entryTerm <= term else { throw reader.failure(.outOfRange) }
      lastTerm = entryTerm
      let length = try reader.integer(UInt32.self)
      let rawKind = try reader.integer(UInt32.self)
      guard rawKind <= 0xFF, let kind = Entry.Kind(rawValue: UInt8(rawKind)) else {
        throw reader.failure(.unknownField)
      }
      index = index.next
      entries.append(
        Entry(
          index: index, term: entryTerm, kind: kind,
          payload: [UInt8](try reader.bytes(Int(length)))))
    }
    return Append(
      previousIndex: previousIndex, previousTerm: previousTerm, commit: commit, entries: entries)
  }

  private enum Kind: UInt8 {
    case preVoteRequest = 1
    case preVoteResponse = 2
    case voteRequest = 3
    case voteResponse = 4
    case append = 5
    case appendAccepted = 6
    case appendRejected = 7
    case heartbeat = 8
    case heartbeatResponse = 9
    case commit = 10
    case readRequest = 11
    case readResponse = 12
    case proposal = 13
    case proposalRefused = 14
    case campaignNow = 15

    var knownFlags: UInt16 {
      switch self {
      case .preVoteRequest, .preVoteResponse, .voteRequest, .voteResponse, .readResponse, .proposal:
        return 1
      default: return 0
      }
    }
  }

  private func encodeHeader(
    _ kind: Kind, flags: UInt16 = 0, count: Int = 0, into bytes: inout [UInt8]
  ) {
    bytes.append(Message.formatVersion)
    bytes.append(kind.rawValue)
    bytes.append(littleEndian: flags)
    bytes.append(littleEndian: UInt32(count))
    bytes.append(littleEndian: from.rawValue)
    bytes.append(littleEndian: to.rawValue)
    bytes.append(littleEndian: term.rawValue)
  }

  private func encode(_ value: UInt64, kind: Kind, into bytes: inout [UInt8]) {
    encodeHeader(kind, into: &bytes)
    bytes.append(littleEndian: value)
  }

  private func encode(_ request: VoteRequest, kind: Kind, into bytes: inout [UInt8]) {
    encodeHeader(kind, flags: request.isTransfer ? 1 : 0, into: &bytes)
    bytes.append(littleEndian: request.candidacy.rawValue)
    bytes.append(littleEndian: request.lastIndex.rawValue)
    bytes.append(littleEndian: request.lastTerm.rawValue)
  }

  private func encode(_ response: VoteResponse, kind: Kind, into bytes: inout [UInt8]) {
    encodeHeader(kind, flags: response.isGranted ? 1 : 0, into: &bytes)
    bytes.append(littleEndian: response.candidacy.rawValue)
  }
}
