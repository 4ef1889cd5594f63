import EtcdWire
import Primitives

// Leases as the log knows them: an id, the seconds granted, what the last checkpoint left of them,
// and the attached keys. When a lease runs out, the leader decides by its clock; the log says so.

extension Store {
  // MARK: Commands

  /// Grants a lease with the id that the proposer chose.
  ///
  /// - Returns: what was granted.
  func grant(
    _ request: LeaseGrantRequest, extra: UnsafeRawBufferPointer
  ) throws(ApplyError) -> LeaseEffect {
    var reader = ByteReader(extra)
    var id: Int64
    var minimum: Int64 = 1
    do throws(ByteReaderError) {
      id = try reader.read()
      if !reader.isAtEnd { minimum = try reader.read() }
    } catch { throw .malformedRequest }
    if id == 0 { id = request.id }
    if id == 0 { throw .leaseNotFound }
    if request.timeToLive > Limits.maximumLeaseSeconds { throw .leaseTooLong }
    let word = LeaseEntry.word(of: id)
    var (cursor, exists) = root.leases.descend(to: TreeKey(word: word))
    if exists { throw .leaseExists }

    let seconds = min(max(request.timeToLive, minimum, 1), Limits.maximumLeaseSeconds)
    let entry = arena.makeLease(id: id, granted: seconds, remaining: seconds)
    root.leases.insert(at: &cursor, entry.address, key: TreeKey(word: word), arena)
    mix(.leaseGrant, UInt64(bitPattern: id))
    mix(.leaseGrant, UInt64(bitPattern: seconds))
    return .granted(LeaseID(id), seconds: seconds)
  }

  /// Ends a lease and deletes its keys, in their order, in one revision; none if it has no keys.
  func revoke(_ id: Int64) throws(ApplyError) {
    var (cursor, exists) = root.leases.descend(to: TreeKey(word: LeaseEntry.word(of: id)))
    guard exists, let element = cursor.element else { throw .leaseNotFound }
    let entry = LeaseEntry(address: element)
    root.leases.remove(at: &cursor, arena)

    let keys = entry.keys
    var hasKeys = !keys.isEmpty
    #if PLANTED_BUGS
      if PlantedBug.keysOutliveLease.isPlanted { hasKeys = false }
    #endif
    if hasKeys {
      let revision = root.revision &+ 1
      keys.forEachElement { delete(Record(address: $0), at: revision) }
      root.revision = revision
      keys.forEachNode { arena.retire($0) }
    }
    arena.retire(entry)
    mix(.leaseRevoke, UInt64(bitPattern: id))
  }

  /// Revokes the leases that a leader saw run out, if it was the leader that proposed this.
  func expireLeases(
    _ body: UnsafeRawBufferPointer, _ term: Term, _ effects: inout [LeaseEffect]
  ) throws(ApplyError) {
    var reader = ByteReader(body)
    do {
      let leaderTerm: UInt64 = try reader.read()
      let count: UInt32 = try reader.read()
      guard UInt64(reader.remaining) == UInt64(count) * 8 else {
        throw ApplyError.malformedRequest
      }
      // The clocks of an earlier leader don't count any more: the new one has started its own.
      if leaderTerm != term.rawValue { return }
      for _ in 0..<count {
        let id: Int64 = try reader.read()
        // One that is gone already was revoked by a client in the meantime.
        do throws(ApplyError) {
          try revoke(id)
          effects.append(.revoked(LeaseID(id)))
        } catch {}
      }
    } catch { throw .malformedRequest }
  }

  /// Notes what is left of leases, so that a new leader needn't grant their whole time anew.
  func checkpointLeases(
    _ body: UnsafeRawBufferPointer, _ effects: inout [LeaseEffect]
  ) throws(ApplyError) {
    var reader = ByteReader(body)
    do {
      let count: UInt32 = try reader.read()
      guard UInt64(reader.remaining) == UInt64(count) * 16 else {
        throw ApplyError.malformedRequest
      }
      for _ in 0..<count {
        let id: Int64 = try reader.read()
        let remaining: Int64 = try reader.read()
        var checkpointed: Int64?
        changeLease(id) { entry in
          let clamped = min(max(remaining, 0), entry.granted)
          entry.remaining = clamped
          checkpointed = clamped
        }
        guard let checkpointed else { continue }
        effects.append(.checkpointed(LeaseID(id), remaining: checkpointed))
        mix(.leaseCheckpoint, UInt64(bitPattern: id))
        mix(.leaseCheckpoint, UInt64(bitPattern: checkpointed))
      }
    } catch { throw .malformedRequest }
  }

  // MARK: Keys

  /// Attaches a live record's key, or replaces the attached record of the same key. O(log n).
  func attach(_ record: Record, to lease: Int64) {
    changeLease(lease) { entry in
      var keys = entry.keys
      let key = TreeKey(record.key)
      var (cursor, exists) = keys.descend(to: key)
      if exists {
        keys.replace(at: &cursor, with: record.address, arena)
      } else {
        keys.insert(at: &cursor, record.address, key: key, arena)
      }
      entry.keys = keys
    }
  }

  /// Detaches the key of a record that is no longer live, but still readable. O(log n).
  func detach(_ record: Record, from lease: Int64) {
    changeLease(lease) { entry in
      var keys = entry.keys
      var (cursor, exists) = keys.descend(to: TreeKey(record.key))
      if exists { keys.remove(at: &cursor, arena) }
      entry.keys = keys
    }
  }

  /// Hands a lease's entry, made one of this epoch, to `body`; does nothing if there is no such
  /// lease.
  func changeLease(_ id: Int64, _ body: (LeaseEntry) -> Void) {
    var (cursor, exists) = root.leases.descend(to: TreeKey(word: LeaseEntry.word(of: id)))
    guard exists, let element = cursor.element else { return }
    let entry = arena.writable(LeaseEntry(address: element))
    if entry.address != element { root.leases.replace(at: &cursor, with: entry.address, arena) }
    body(entry)
  }
}
