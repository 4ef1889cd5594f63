import Primitives

/// Decides which thread runs the core: one at a time, and whoever comes first.
///
/// # The problem
/// The core belongs to one thread at a time. With a thread of its own, every event costs a wake-up to get
/// there and another to get back; a put of a lone client then pays for a dozen, some 40 µs each, which is
/// more than its disk writes take. Under load the same thread is a blessing: it never sleeps, and what
/// arrives while it works becomes the next batch.
///
/// # The design
/// The core is a *turn* that one thread holds. Who adds an item while nobody holds the turn takes it, and
/// works on its own thread: no wake-up. Who finds it taken only queues the item. The holder works off one
/// batch; if more has come meanwhile, it hands the turn to the *owner*, a thread that has nothing else to
/// do, so that an event loop or the log's thread never works for others longer than one batch. So a quiet
/// member runs without hand-over, and a busy one as if the owner alone existed.
///
///     free ──append──▶ held by the caller ──nothing came──▶ free
///       │                     └──────────more came──▶ held by the owner ──nothing left──▶ free
///       └──deadline──▶ held by the owner
final class CoreTurns<Item: Sendable>: @unchecked Sendable {
  private enum Turn {
    case free
    case held
    /// The owner is to take it, and has been signalled.
    case handedOver
  }

  // Guards all that follows; the owner waits on it.
  private let monitor = Monitor()
  private var turn = Turn.free
  private var items: [Item] = []
  /// When the owner must take a turn even if nothing comes. Never moves to an earlier time, except to
  /// `.origin`, which hands the turn over at once.
  private var deadline: Instant
  /// The deadline passed while the turn was held.
  private var isOwnerDue = false
  private var isClosed = false

  /// - Parameter deadline: when the owner takes its first turn, if nothing comes before.
  init(deadline: Instant) { self.deadline = deadline }

  /// Adds an item, and works it off with `work` on this thread if nobody holds the turn. False once closed.
  ///
  /// - Parameter work: takes a batch through the core; returns when the next turn is due at the latest,
  ///   `.origin` for at once.
  @discardableResult
  func append(_ item: Item, work: ([Item]) -> Instant) -> Bool {
    monitor.lock()
    guard !isClosed else {
      monitor.unlock()
      return false
    }
    items.append(item)
    guard case .free = turn else {
      monitor.unlock()
      return true
    }
    turn = .held
    let batch = takeItems()
    monitor.unlock()
    let next = work(batch)
    monitor.lock()
    deadline = next
    let handsOver = !items.isEmpty || isOwnerDue || next == .origin
    turn = handsOver ? .handedOver : .free
    let mustSignal = handsOver || isClosed
    monitor.unlock()
    if mustSignal { monitor.signal() }
    return true
  }

  /// The owner's thread: takes the turns that are handed over or due, until closed and worked off.
  func serve(work: ([Item]) -> Instant) {
    monitor.lock()
    while waitForTurn() {
      repeat {
        turn = .held
        isOwnerDue = false
        let batch = takeItems()
        monitor.unlock()
        let next = work(batch)
        monitor.lock()
        deadline = next
      } while !items.isEmpty || (deadline == .origin && !isClosed)
      turn = .free
    }
    monitor.unlock()
  }

  /// Waits until the turn is the owner's; false once closed with nothing left. The monitor is locked.
  private func waitForTurn() -> Bool {
    while true {
      switch turn {
      case .handedOver: return true
      case .free:
        if isClosed { return !items.isEmpty }
        if MonotonicClock.now >= deadline { return true }
        monitor.wait(until: deadline)
      case .held:
        // The holder moves the deadline on, or hands over.
        if MonotonicClock.now >= deadline {
          isOwnerDue = true
          monitor.wait()
        } else {
          monitor.wait(until: deadline)
        }
      }
    }
  }

  private func takeItems() -> [Item] {
    var taken: [Item] = []
    swap(&taken, &items)
    return taken
  }

  /// What is queued, for who holds the turn.
  func takeRest() -> [Item] {
    monitor.lock()
    defer { monitor.unlock() }
    return takeItems()
  }

  /// Refuses further items; what is queued is still worked off, by the owner.
  func close() {
    monitor.lock()
    isClosed = true
    monitor.unlock()
    monitor.signal()
  }
}
