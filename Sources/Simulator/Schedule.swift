import Primitives

/// Events in order of their time, and among equal times in order of their coming.
struct Schedule<Event> {
  private struct Item {
    let time: Instant
    let number: UInt64
    let event: Event
    /// Which wake-up this is the newest of; nil for other events.
    let wakeKey: Int?
  }

  private var heap: [Item] = []
  private var nextNumber: UInt64 = 0
  /// The number of each key's newest wake-up; older ones are dropped when they surface.
  private var wakes: [Int: UInt64] = [:]

  mutating func add(_ event: Event, at time: Instant) { push(event, time, wakeKey: nil) }

  /// Sets when `key` is woken next, in place of what was set before.
  mutating func addWake(_ event: Event, at time: Instant, key: Int) {
    wakes[key] = nextNumber
    push(event, time, wakeKey: key)
  }

  /// Takes the first event, if it comes before `end`.
  mutating func next(before end: Instant) -> (Instant, Event)? {
    while let first = heap.first, first.time < end {
      removeFirst()
      if let key = first.wakeKey, wakes[key] != first.number { continue }
      return (first.time, first.event)
    }
    return nil
  }

  private mutating func push(_ event: Event, _ time: Instant, wakeKey: Int?) {
    heap.append(Item(time: time, number: nextNumber, event: event, wakeKey: wakeKey))
    nextNumber += 1
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard isBefore(child, parent) else { break }
      heap.swapAt(child, parent)
      child = parent
    }
  }

  private mutating func removeFirst() {
    heap.swapAt(0, heap.count - 1)
    heap.removeLast()
    var parent = 0
    while true {
      var smallest = parent
      for child in [2 * parent + 1, 2 * parent + 2]
      where child < heap.count && isBefore(child, smallest) { smallest = child }
      if smallest == parent { break }
      heap.swapAt(parent, smallest)
      parent = smallest
    }
  }

  private func isBefore(_ left: Int, _ right: Int) -> Bool {
    (heap[left].time, heap[left].number) < (heap[right].time, heap[right].number)
  }
}
