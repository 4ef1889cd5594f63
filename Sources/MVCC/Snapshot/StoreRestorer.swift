import EtcdWire
import Primitives

/// Why a snapshot can't be restored.
public struct SnapshotError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Code: Hashable, Sendable {
    /// The stream isn't a snapshot, or one of a later format.
    case unknownFormat
    /// The stream contradicts itself.
    case corrupt
    /// The stream ended too early, or goes on behind its end.
    case wrongLength
  }
  public var code: Code
  public var message: String
  /// Where, in bytes from the start of the stream.
  public var offset: Int

  public var description: String { "\(message), at byte \(offset) of the snapshot" }
}

/// Builds a store from a snapshot's chunks.
///
/// Corrupt input throws and never traps: what each record claims is checked against those before
/// it, as far as they say. After an error the restorer is of no more use.
///
/// ```swift
/// var restorer = StoreRestorer()
/// while let chunk = reader.next() { try restorer.restore(chunk) }
/// let store = try restorer.finish()
/// ```
public struct StoreRestorer {
  private enum State {
    case header
    case auth(leases: UInt64)
    case leases(left: UInt64)
    case records
    case complete
  }

  private var state = State.header
  private let store = Store()
  /// The beginning of an item whose end hasn't come yet.
  private var pending: [UInt8] = []
  /// Bytes of the stream before `pending`.
  private var consumed = 0

  private var revision: Int64 = 1
  private var stateHash: UInt64 = 0
  private var appliedIndex = LogIndex.zero
  private var recordCount: UInt64 = 0
  private var lastLease: Int64?
  /// Live records whose lease isn't there.
  private var strayRecords = 0
  private var isPastBase = false
  private var lastRevision: Int64 = 0

  public init() {}

  /// Takes the next bytes of the stream, cut anywhere.
  public mutating func restore(_ chunk: UnsafeRawBufferPointer) throws(SnapshotError) {
    if pending.isEmpty {
      let used = try consume(chunk)
      pending.append(contentsOf: UnsafeRawBufferPointer(rebasing: chunk[used...]))
      return
    }
    // Items are small beside chunks, so little is moved twice; a record that spans many chunks is
    // only looked at again once for each of them.
    pending.append(contentsOf: chunk)
    let bytes = pending
    pending = []
    var used = 0
    var failure: SnapshotError?
    bytes.withUnsafeBytes { bytes in
      do throws(SnapshotError) { used = try consume(bytes) } catch { failure = error }
    }
    if let failure { throw failure }
    pending = used == 0 ? bytes : [UInt8](bytes[used...])
  }

  /// Takes the next bytes of the stream, cut anywhere.
  public mutating func restore(_ chunk: [UInt8]) throws(SnapshotError) {
    var failure: SnapshotError?
    chunk.withUnsafeBytes { chunk in
      do throws(SnapshotError) { try restore(chunk) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  /// The store, once the whole stream has been taken.
  public mutating func finish() throws(SnapshotError) -> Store {
    guard case .complete = state else {
      throw error(.wrongLength, "the snapshot ends too early")
    }
    guard strayRecords == 0 else { throw error(.corrupt, "a key's lease is missing") }
    store.root.revision = revision
    #if PLANTED_BUGS
      if PlantedBug.revisionOfRecords.isPlanted { store.root.revision = max(1, lastRevision) }
    #endif
    store.stateHash = stateHash
    store.appliedIndex = appliedIndex
    return store
  }

  // MARK: Items

  /// Takes as many whole items as there are.
  ///
  /// - Returns: how many bytes they took.
  private mutating func consume(_ bytes: UnsafeRawBufferPointer) throws(SnapshotError) -> Int {
    var used = 0
    while true {
      let rest = UnsafeRawBufferPointer(rebasing: bytes[used...])
      let taken: Int
      switch state {
      case .header: taken = try takeHeader(rest)
      case .auth(let leases): taken = try takeAuth(rest, leases)
      case .leases(let left): taken = try takeLease(rest, left)
      case .records: taken = try takeRecord(rest)
      case .complete:
        if !rest.isEmpty { throw error(.wrongLength, "bytes follow the snapshot's end") }
        taken = 0
      }
      if taken == 0 { return used }
      used += taken
      consumed += taken
    }
  }

  private mutating func takeHeader(_ bytes: UnsafeRawBufferPointer) throws(SnapshotError) -> Int {
    guard bytes.count >= SnapshotFormat.headerSize else { return 0 }
    let version = bytes.integer(at: 4, as: UInt32.self)
    guard bytes.integer(at: 0, as: UInt32.self) == SnapshotFormat.magic,
      version == SnapshotFormat.version || version == SnapshotFormat.versionWithoutAuth
    else { throw error(.unknownFormat, "not a snapshot of format 1 or 2") }
    revision = bytes.integer(at: 8)
    let compactRevision: Int64 = bytes.integer(at: 16)
    stateHash = bytes.integer(at: 24)
    appliedIndex = LogIndex(bytes.integer(at: 32, as: UInt64.self))
    guard revision >= 1, compactRevision >= -1, compactRevision <= revision else {
      throw error(.corrupt, "impossible revisions")
    }
    store.root.compactRevision = compactRevision
    let leases: UInt64 = bytes.integer(at: 40)
    state = version == SnapshotFormat.version ? .auth(leases: leases) : Self.afterAuth(leases)
    return SnapshotFormat.headerSize
  }

  private static func afterAuth(_ leases: UInt64) -> State {
    leases == 0 ? .records : .leases(left: leases)
  }

  private mutating func takeAuth(
    _ bytes: UnsafeRawBufferPointer, _ leases: UInt64
  ) throws(SnapshotError) -> Int {
    guard bytes.count >= 4 else { return 0 }
    let length = Int(bytes.integer(at: 0, as: UInt32.self))
    guard length <= SnapshotFormat.authMaximum else {
      throw error(.corrupt, "too many users and roles")
    }
    guard bytes.count >= 4 + length else { return 0 }
    do throws(ByteReaderError) {
      store.auth = try AuthState(
        encoded: UnsafeRawBufferPointer(rebasing: bytes[4..<(4 + length)]))
    } catch {
      throw self.error(.corrupt, "impossible users or roles: \(error)")
    }
    state = Self.afterAuth(leases)
    return 4 + length
  }

  private mutating func takeLease(
    _ bytes: UnsafeRawBufferPointer, _ left: UInt64
  ) throws(SnapshotError) -> Int {
    guard bytes.count >= SnapshotFormat.leaseSize else { return 0 }
    let id: Int64 = bytes.integer(at: 0)
    let granted: Int64 = bytes.integer(at: 8)
    let remaining: Int64 = bytes.integer(at: 16)
    guard id != 0, lastLease.map({ $0 < id }) ?? true, granted >= 1,
      granted <= Limits.maximumLeaseSeconds, remaining >= 0, remaining <= granted
    else { throw error(.corrupt, "an impossible lease") }
    lastLease = id
    store.restoreLease(id: id, granted: granted, remaining: remaining)
    state = left == 1 ? .records : .leases(left: left - 1)
    return SnapshotFormat.leaseSize
  }

  private mutating func takeRecord(_ bytes: UnsafeRawBufferPointer) throws(SnapshotError) -> Int {
    guard let first = bytes.first else { return 0 }
    guard let kind = SnapshotFormat.Kind(rawValue: first) else {
      throw error(.corrupt, "a record of unknown kind")
    }
    if kind == .end {
      guard bytes.count >= 9 else { return 0 }
      guard bytes.integer(at: 1, as: UInt64.self) == recordCount else {
        throw error(.corrupt, "another number of records than the snapshot claims")
      }
      state = .complete
      return 9
    }
    guard bytes.count >= 5 else { return 0 }
    let length = Int(bytes.integer(at: 1, as: UInt32.self))
    guard length <= SnapshotFormat.recordMaximum else {
      throw error(.corrupt, "a record that is too long")
    }
    guard bytes.count >= 5 + length else { return 0 }
    try addRecord(kind, UnsafeRawBufferPointer(rebasing: bytes[5..<(5 + length)]))
    recordCount += 1
    return 5 + length
  }

  private mutating func addRecord(
    _ kind: SnapshotFormat.Kind, _ bytes: UnsafeRawBufferPointer
  ) throws(SnapshotError) {
    let keyValue: KeyValue
    do throws(WireError) { keyValue = try KeyValue(bytes) } catch {
      throw self.error(.corrupt, "a record that is not a KeyValue: \(error)")
    }
    guard !keyValue.key.isEmpty, keyValue.encodedSize == bytes.count else {
      throw error(.corrupt, "a record in another than the store's own encoding")
    }
    let compactRevision = store.root.compactRevision
    let existing = store.root.liveRecord(keyValue.key)
    let modRevision = keyValue.modRevision
    if kind == .base {
      guard !isPastBase, modRevision > 0, modRevision < compactRevision, existing == nil else {
        throw error(.corrupt, "a record out of place")
      }
    } else {
      isPastBase = true
      guard modRevision > 1, modRevision >= compactRevision, modRevision >= lastRevision,
        modRevision <= revision
      else { throw error(.corrupt, "an event out of place") }
      lastRevision = modRevision
    }

    // A superseded record's lease may be gone; a live one's may not.
    if let existing, isWithoutItsLease(existing.numbers.lease) { strayRecords -= 1 }
    if kind != .tombstone && isWithoutItsLease(keyValue.lease) { strayRecords += 1 }

    if kind == .tombstone {
      guard keyValue.createRevision == 0, keyValue.version == 0, keyValue.lease == 0,
        keyValue.value.isEmpty, existing != nil || modRevision == compactRevision
      else { throw error(.corrupt, "an impossible deletion") }
      store.restoreTombstone(keyValue.key, modRevision: modRevision)
      return
    }
    guard keyValue.createRevision > 0, keyValue.createRevision <= modRevision,
      keyValue.version != 0,
      existing == nil || existing?.numbers.createRevision == keyValue.createRevision
    else { throw error(.corrupt, "an impossible record") }
    store.restoreRecord(keyValue, isEvent: kind == .put)
  }

  private func isWithoutItsLease(_ lease: Int64) -> Bool {
    lease != 0 && store.root.lease(lease) == nil
  }

  private func error(_ code: SnapshotError.Code, _ message: String) -> SnapshotError {
    SnapshotError(code: code, message: message, offset: consumed)
  }
}

extension SnapshotFormat {
  /// No command is longer, and a record is at most a command and its numbers.
  static let recordMaximum = Limits.maximumCommandBytes + 128
}

extension UnsafeRawBufferPointer {
  /// A little-endian integer at an offset that the caller has checked.
  fileprivate func integer<Value: FixedWidthInteger>(
    at offset: Int, as type: Value.Type = Value.self
  ) -> Value {
    Value(littleEndian: loadUnaligned(fromByteOffset: offset, as: Value.self))
  }
}
