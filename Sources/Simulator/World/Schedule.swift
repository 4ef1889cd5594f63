import Primitives

/// Events in order of their time, and among equal times in order of their coming.
struct Schedule<Event> {
  /// Small and plain, since the heap moves it often; the event lies still, in `events`.
  private struct Item {
    let time: Instant
    let number: UInt64
    let place: Int32
    /// Which wake-up this is the newest of; -1 for other events.
    let wakeKey: Int32
  }

  private var heap: [Item] = []
  private var events: [Event?] = []
  private var freePlaces: [Int32] = []
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
      let event = take(first.place)
      if first.wakeKey >= 0, wakes[Int(first.wakeKey)] != first.number { continue }
      return (first.time, event)
    }
    return nil
  }

  private mutating func push(_ event: Event, _ time: Instant, wakeKey: Int?) {
    let place = freePlaces.popLast() ?? Int32(events.count)
    if Int(place) == events.count { events.append(event) } else { events[Int(place)] = event }
    heap.append(
      Item(time: time, number: nextNumber, place: place, wakeKey: Int32(wakeKey ?? -1)))
    nextNumber += 1
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard isBefore(child, parent) else { break }
      heap.swapAt(child, parent)
      child = parent
    }
  }

  private mutating func take(_ place: Int32) -> Event {
    guard let event = events[Int(place)] else { invariantFailure("an event happened twice") }
    events[Int(place)] = nil
    freePlaces.append(place)
    return event
  }

  private mutating func removeFirst() {
    heap.swapAt(0, heap.count - 1)
    heap.removeLast()
    var parent = 0
    while true {
      var smallest = parent
      let left = 2 * parent + 1
      if left < heap.count, isBefore(left, smallest) { smallest = left }
      if left + 1 < heap.count, isBefore(left + 1, smallest) { smallest = left + 1 }
      if smallest == parent { break }
      heap.swapAt(parent, smallest)
      parent = smallest
    }
  }

  private func isBefore(_ left: Int, _ right: Int) -> Bool {
    let (one, other) = (heap[left], heap[right])
    return one.time != other.time ? one.time < other.time : one.number < other.number
  }
}
