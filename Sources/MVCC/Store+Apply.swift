import EtcdWire
import Primitives

extension Store {
  /// Applies one entry of the log.
  ///
  /// Total: any payload leaves the store in a valid state, the same on every member. A payload that
  /// is not a `CommandBatch` changes nothing; one that is malformed further on is applied up to
  /// there.
  ///
  /// - Parameters:
  ///   - payload: a batch as `CommandBatch` lays it out; empty for an entry without commands.
  ///   - index: the entry's place in the log, above that of every entry before.
  ///   - term: the term of the leader that proposed the entry.
  ///   - wantsResults: whether this member proposed it and has clients to answer.
  public func apply(
    _ payload: [UInt8], at index: LogIndex, term: Term, wantsResults: Bool
  ) -> AppliedEntry {
    var applied = AppliedEntry(events: EventBatch(after: revision, through: revision))
    payload.withUnsafeBytes { bytes in
      apply(bytes, at: index, term: term, wantsResults: wantsResults, &applied)
    }
    appliedIndex = index
    applied.events.through = revision
    return applied
  }

  private func apply(
    _ payload: UnsafeRawBufferPointer, at index: LogIndex, term: Term, wantsResults: Bool,
    _ applied: inout AppliedEntry
  ) {
    do throws(ByteReaderError) {
      var reader = try CommandBatchReader(payload)
      applied.proposer = reader.header.proposer
      applied.firstSequence = reader.header.firstSequence
      if wantsResults {
        // The header's count is not to be trusted; each command takes at least its header's bytes.
        let most = payload.count / CommandBatch.commandHeaderSize
        applied.results.reserveCapacity(min(Int(reader.header.count), most))
      }
      while let command = try reader.next() {
        let body: CommandResult.Body
        do throws(ApplyError) {
          if auth.isEnabled { try authorize(command) }
          if command.kind == .auth {
            body = try performAuth(command.body, at: index, &applied.authEffects)
          } else {
            body = try perform(command, term, wantsResults, &applied.leaseEffects)
          }
        } catch {
          body = .error(error)
        }
        if wantsResults {
          applied.results.append(CommandResult(revision: revision, body: body))
        }
      }
    } catch {
      // Not a batch, or not one to its end: every member stops at the same byte.
    }
  }

  private func perform(
    _ command: Command, _ term: Term, _ wantsResults: Bool, _ effects: inout [LeaseEffect]
  ) throws(ApplyError) -> CommandResult.Body {
    if !refusals.isEmpty, let error = refusal(of: command) { throw error }
    switch command.kind {
    case .put:
      let request: PutRequest = try decode(command.body)
      let previous = try put(request)
      guard wantsResults, request.wantsPrevious, let previous else { return .empty }
      var output: [UInt8] = []
      output.reserveCapacity(previous.encodedSize + 11)
      PutResponse.append(encodedPrevious: previous.encoded, to: &output)
      return .encoded(output)

    case .deleteRange:
      let request: DeleteRangeRequest = try decode(command.body)
      let deleted = deleteRange(request)
      if !wantsResults || deleted.isEmpty { return .empty }
      var output: [UInt8] = []
      appendDeleteRange(request, deleted, to: &output)
      return .encoded(output)

    case .txn:
      let request: TxnRequest = try decode(command.body)
      var output: [UInt8] = []
      try transaction(request, wantsResults, &output)
      return wantsResults ? .encoded(output) : .empty

    case .compact:
      let request: CompactionRequest = try decode(command.body)
      try compact(request.revision)
      return .empty

    case .leaseGrant:
      let request: LeaseGrantRequest = try decode(command.body)
      let effect = try grant(request, extra: command.extra)
      effects.append(effect)
      guard wantsResults, case .granted(let id, let seconds) = effect else { return .empty }
      var response = LeaseGrantResponse()
      response.id = id.rawValue
      response.timeToLive = seconds
      return .encoded(response.encoded())

    case .leaseRevoke:
      let request: LeaseRevokeRequest = try decode(command.body)
      try revoke(request.id)
      effects.append(.revoked(LeaseID(request.id)))
      return .empty

    case .leaseExpire:
      try expireLeases(command.body, term, &effects)
      return .empty

    case .leaseCheckpoint:
      try checkpointLeases(command.body, &effects)
      return .empty

    default:
      throw .unsupportedCommand
    }
  }

  @inline(__always)
  func decode<Message: WireMessage>(
    _ body: UnsafeRawBufferPointer
  ) throws(ApplyError) -> Message {
    do throws(WireError) { return try Message(body) } catch { throw .malformedRequest }
  }

  // MARK: State hash

  /// What is mixed into the state hash besides records.
  enum HashedEffect: UInt64 {
    case put = 1
    case delete
    case compact
    case leaseGrant
    case leaseRevoke
    case leaseCheckpoint
    case auth
  }

  /// Mixes a change into the state hash; the order of calls matters.
  @inline(__always)
  func mix(_ effect: HashedEffect, _ value: UInt64) {
    var mixed = (stateHash ^ effect.rawValue) &* 0x9E37_79B9_7F4A_7C15 &+ value
    mixed = (mixed ^ (mixed >> 32)) &* 0xD6E8_FEB8_6659_FD93
    stateHash = mixed ^ (mixed >> 29)
  }

  @inline(__always)
  func mix(_ effect: HashedEffect, _ record: Record) {
    mix(effect, UInt64(CRC32C.checksum(record.encoded)) | UInt64(record.encodedSize) << 32)
  }
}
