import Persistence
import Primitives
import Synchronization

// A disk that forgets.
//
// Problem. What a program wrote and didn't sync may be on the disk after a crash or not, in any
// combination of sectors; a name may be missing though the file's bytes are there; a failed fdatasync
// leaves bytes that the page cache shows and the disk never got. A real disk does these things so
// rarely that no test would meet them.
//
// Design. Every file is kept twice: as the running programs see it and as the platters hold it, with the
// writes between the two in order. `crash` decides for each sector of each of those writes whether it
// reached the platters, by a seed, then throws the programs' view away. Names go the same way, by
// directory: those changed since the last sync survive up to some point, in order, as a journal keeps
// them. Faults are put in by a hook that sees every operation before it happens.
//
// Left out: time (an operation is instantaneous; the simulator delays jobs, not operations) and damage
// to bytes once they are synced, except by `flipBit` and `overwrite`, which tests call by name.

/// A file system in memory that loses what wasn't synced.
///
/// Equal seeds and equal operations give equal disks. Safe to use from several threads, but then the
/// order is the threads'.
public final class SimulatedDisk: FileSystem {
  /// What a crash keeps and loses whole: the unit in which disks write.
  public static let sectorBytes = 512

  struct File {
    /// As reads see it.
    var visible: [UInt8] = []
    /// As a crash would find it, if it kept none of `pending`.
    var durable: [UInt8] = []
    /// Changes since the last sync, in order.
    var pending: [Change] = []
  }

  enum Change {
    case write(offset: Int, bytes: [UInt8])
    case resize(Int)
  }

  /// A change of a directory.
  enum NameChange {
    case set(path: String, file: Int)
    case remove(path: String)
    case rename(from: String, to: String, file: Int)
  }

  struct State {
    var random: RandomSource
    var files: [Int: File] = [:]
    var nextFile = 0
    var names: [String: Int] = [:]
    var durableNames: [String: Int] = [:]
    /// Changes of names since their directory was synced, in order, by directory.
    var pendingNames: [String: [NameChange]] = [:]
    var directories: Set<String> = []
    var locks: Set<String> = []
    var capacity: UInt64 = .max
    var fault: (@Sendable (FileOperation) -> PersistenceError?)?
    /// Operations until the power fails; nil for never.
    var operationsLeft: Int?
    var operations = 0
    var syncs = 0
  }

  let state: Mutex<State>

  public init(seed: UInt64) {
    state = Mutex(State(random: RandomSource(seed: seed)))
  }

  // MARK: Faults

  /// Bytes that all files together may take; beyond them operations fail with `diskFull`.
  public var capacity: UInt64 {
    get { state.withLock { $0.capacity } }
    set { state.withLock { $0.capacity = newValue } }
  }

  /// Bytes that all files together take.
  public var usedBytes: UInt64 { state.withLock { $0.used } }

  /// Asked before every operation; what it returns is thrown instead. A failed write may leave a part of
  /// itself, and a failed sync leaves bytes that only reads see.
  public func setFault(_ fault: (@Sendable (FileOperation) -> PersistenceError?)?) {
    state.withLock { $0.fault = fault }
  }

  /// Lets the power fail at the `count`th operation from now, in its midst: it and all later ones throw,
  /// until ``crash()``. Nil takes that back.
  public func failPower(after count: Int?) {
    state.withLock { $0.operationsLeft = count }
  }

  /// Whether the power failed and ``crash()`` hasn't been called since.
  public var isOff: Bool { state.withLock { $0.operationsLeft == 0 } }

  /// How many operations were asked for, and how many of them were syncs.
  public var operationCount: Int { state.withLock { $0.operations } }
  public var syncCount: Int { state.withLock { $0.syncs } }

  /// The power fails and comes back: what was synced is kept, of the rest a part.
  public func crash() { state.withLock { $0.crash() } }

  /// The process dies and the machine lives: nothing is lost but locks.
  public func killProcess() { state.withLock { $0.locks = [] } }

  /// A disk with what this one would hold after a crash that kept nothing unsynced.
  public func durableImage() -> SimulatedDisk {
    let image = SimulatedDisk(seed: 0)
    let state = state.withLock { $0 }
    image.state.withLock { own in
      own.names = state.durableNames
      own.durableNames = state.durableNames
      own.nextFile = state.nextFile
      own.directories = state.directories
      for (id, file) in state.files {
        own.files[id] = File(visible: file.durable, durable: file.durable)
      }
    }
    return image
  }

  // MARK: For tests

  /// A file's bytes as reads see them, nil if there is none.
  public func contents(of path: String) -> [UInt8]? {
    state.withLock { state in state.names[path].flatMap { state.files[$0]?.visible } }
  }

  /// The paths of all files, sorted.
  public var paths: [String] { state.withLock { $0.names.keys.sorted() } }

  /// Damages a byte, on the platters as well.
  public func flipBit(_ path: String, at offset: Int, bit: UInt8 = 0) {
    state.withLock { state in
      guard let file = state.names[path] else { return }
      state.files[file]?.visible[offset] ^= 1 << (bit & 7)
      state.files[file]?.durable[offset] ^= 1 << (bit & 7)
    }
  }

  /// Replaces a file's bytes, on the platters as well, making the file if there is none.
  public func overwrite(_ path: String, with bytes: [UInt8]) {
    state.withLock { state in
      let file: Int
      if let known = state.names[path] {
        file = known
      } else {
        state.nextFile += 1
        file = state.nextFile
        state.names[path] = file
      }
      state.durableNames[path] = file
      state.files[file] = File(visible: bytes, durable: bytes)
    }
  }

  public func perform(_ operation: FileOperation) throws(PersistenceError) -> FileAnswer {
    let result: Result<FileAnswer, PersistenceError> = state.withLock { state in
      do throws(PersistenceError) {
        return .success(try state.perform(operation))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }
}
