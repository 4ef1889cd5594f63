import EtcdWire
import Primitives

// Who is to hear of what
// ======================
//
// A batch of the log makes thousands of events, and there may be thousands of watchers; most pairs
// have nothing to do with each other, and where they do, many watchers want the same. So:
//
// - Watchers that ask for the same (range, filters, previous or not) form a *group*, and are
//   matched as one. A delivery names all of them.
// - Groups are found through an interval index, by the event's key.
// - An event is encoded when the first group wants it, at most twice (with and without the previous
//   record), into arrays that all deliveries of the batch share.
//
// Events of one revision stay together: a batch holds whole revisions, and a delivery has all of
// the batch that its watchers want.

/// Some watchers of equal wishes, and what they get of one batch.
public struct WatchDelivery: Sendable {
  public var watchers: [WatcherID]
  public var events: EventRun

  public init(watchers: [WatcherID], events: EventRun) {
    self.watchers = watchers
    self.events = events
  }
}

/// The watchers that have caught up, and what they wait for. Owned by the writer.
public struct WatchRegistry {
  private struct Wish: Hashable {
    var range: WatchRange
    var filter: UInt8
    var wantsPrevious: Bool
  }

  private struct Place {
    /// How often the slot was used; 0 never.
    var use: UInt32 = 0
    /// Nil where the slot is free.
    var group: Int?
    /// Its position in the group's list.
    var position = 0
  }

  private struct Group {
    var wish: Wish
    let filter: UInt8
    let wantsPrevious: Bool
    /// Nil if no key can match.
    var bounds: IntervalIndex.Bounds?
    var watchers: [WatcherID]
    /// What the batch being matched has for this group.
    var parts: [EventRun.Part] = []
  }

  private var groups: [Group] = []
  private var freeGroups: [Int] = []
  private var groupOfWish: [Wish: Int] = [:]
  /// Where the watcher of each slot stands.
  private var places: [Place] = []
  private var freeSlots: [Int] = []
  private var index = IntervalIndex()

  public init() {}

  /// How many watchers there are.
  public var count: Int { places.count - freeSlots.count }

  /// Adds a watcher. It gets the events of batches matched from now on. O(log n).
  public mutating func register(
    _ range: WatchRange, filter: WatchFilter, wantsPrevious: Bool
  ) -> WatcherID {
    let slot = freeSlots.popLast() ?? places.count
    if slot == places.count { places.append(Place()) }
    places[slot].use &+= 1
    let id = WatcherID(slot: slot, use: places[slot].use)
    let wish = Wish(range: range, filter: filter.rawValue, wantsPrevious: wantsPrevious)
    if let group = groupOfWish[wish] {
      places[slot].group = group
      places[slot].position = groups[group].watchers.count
      groups[group].watchers.append(id)
      return id
    }
    let new = Group(
      wish: wish, filter: wish.filter, wantsPrevious: wantsPrevious,
      bounds: IntervalIndex.Bounds(range), watchers: [id])
    let group: Int
    if let free = freeGroups.popLast() {
      group = free
      groups[group] = new
    } else {
      group = groups.count
      groups.append(new)
    }
    groupOfWish[wish] = group
    places[slot].group = group
    places[slot].position = 0
    if let bounds = new.bounds { index.insert(bounds, group) }
    return id
  }

  /// Removes a watcher. O(log n).
  ///
  /// - Returns: whether there was such a watcher.
  @discardableResult
  public mutating func cancel(_ id: WatcherID) -> Bool {
    guard id.slot < places.count, places[id.slot].use == id.use,
      let group = places[id.slot].group
    else { return false }
    // The list's last watcher takes the place.
    let position = places[id.slot].position
    let last = groups[group].watchers.removeLast()
    if last != id {
      groups[group].watchers[position] = last
      places[last.slot].position = position
    }
    places[id.slot].group = nil
    freeSlots.append(id.slot)
    if groups[group].watchers.isEmpty {
      if let bounds = groups[group].bounds { index.remove(bounds, group) }
      groupOfWish[groups[group].wish] = nil
      freeGroups.append(group)
    }
    return true
  }

  /// Removes all watchers. Their ids stay taken.
  public mutating func cancelAll() {
    for slot in places.indices where places[slot].group != nil {
      cancel(WatcherID(slot: slot, use: places[slot].use))
    }
  }

  /// Finds out who is to hear of a batch's events.
  ///
  /// O(events x (log n + matches)). Deliveries stand in the order in which their groups were first
  /// met.
  ///
  /// - Parameters:
  ///   - batch: the events to look at; of one entry, or joined from consecutive ones.
  ///   - view: the view published after the batch was applied, before any maintenance or later one.
  public mutating func match(_ batch: EventBatch, in view: StoreView) -> [WatchDelivery] {
    if batch.isEmpty || count == 0 { return [] }
    defer { withExtendedLifetime(view.published) {} }
    let root = view.root
    var met: [Int] = []
    var plainBytes: [UInt8] = []
    var bytesWithPrevious: [UInt8] = []
    var first = batch.after.rawValue &+ 1
    #if PLANTED_BUGS
      if PlantedBug.droppedEvent.isPlanted, batch.through.rawValue > first { first += 1 }
      if PlantedBug.repeatedEvent.isPlanted { first -= 1 }
    #endif
    var cursor = root.events(from: first)
    var matching: [Int] = []
    while let record = cursor.record, record.modRevision <= batch.through.rawValue {
      cursor.advance()
      matching.removeAll(keepingCapacity: true)
      index.forEachGroup(containing: record.key) { matching.append($0) }
      if matching.isEmpty { continue }
      let unwanted: WatchFilter = record.isTombstone ? .noDelete : .noPut
      let revision = Revision(record.modRevision)
      var plain: Range<Int>?
      var withPrevious: Range<Int>?
      for group in matching {
        var isUnwanted = groups[group].filter & unwanted.rawValue != 0
        #if PLANTED_BUGS
          if PlantedBug.ignoredFilter.isPlanted { isUnwanted = false }
        #endif
        if isUnwanted { continue }
        let place: Range<Int>
        if groups[group].wantsPrevious {
          place =
            withPrevious
            ?? EventRun.encode(
              record, previous: root.previous(of: record), to: &bytesWithPrevious)
          withPrevious = place
        } else {
          place = plain ?? EventRun.encode(record, previous: nil, to: &plainBytes)
          plain = place
        }
        if groups[group].parts.isEmpty { met.append(group) }
        EventRun.add(place, revision, to: &groups[group].parts)
      }
    }

    var deliveries: [WatchDelivery] = []
    deliveries.reserveCapacity(met.count)
    for group in met {
      deliveries.append(
        WatchDelivery(
          watchers: groups[group].watchers,
          events: EventRun(
            bytes: groups[group].wantsPrevious ? bytesWithPrevious : plainBytes,
            parts: groups[group].parts, through: batch.through)))
      groups[group].parts = []
    }
    return deliveries
  }
}
