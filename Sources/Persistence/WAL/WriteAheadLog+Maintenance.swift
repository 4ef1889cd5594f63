import Primitives

// Segments before and after their use. None of this is on the write path.

extension WriteAheadLog {
  /// Lets go of the entries through `index`, which a durable snapshot covers. Whole segments become
  /// free for reuse at once; nothing is written.
  ///
  /// Keep what followers may still ask for, and what the older snapshot that a member might fall back
  /// on still needs.
  public mutating func release(through index: LogIndex) {
    releasable = max(releasable, index)
    releaseSegments()
  }

  mutating func releaseSegments() {
    // Until a batch that replaces entries is on disk, the log without it needs what it replaces.
    if appends.contains(where: { $0.replaces }) { return }
    while segments.count > 1 {
      let segment = segments[0]
      if segment.generation >= durableGeneration { return }
      // Extents ascend by index and by segment alike, so the segment's own come first.
      let own = extents.partitionPoint { $0.generation <= segment.generation }
      if own > 0, extents[own - 1].last > releasable { return }
      extents.removeFirst(own)
      segments.removeFirst()
      if segment.capacity == settings.segmentBytes && spares.count < settings.maximumSpareSegments {
        spares.append(segment.path)
      } else {
        removals.append(segment.path)
      }
    }
  }

  /// The next piece of background work, nil if there is none or one is on its way. Ask after every
  /// append and release; perform it off the log's own thread; hand its result to ``completed(_:)``.
  public mutating func takeMaintenance() -> DiskJob? {
    guard maintenance == nil, failure == nil else { return nil }
    if !removals.isEmpty {
      let ticket = takeTicket()
      maintenance = (ticket, .remove(paths: removals))
      var operations = removals.map { FileOperation.remove(path: $0) }
      operations.append(.syncDirectory(path: directory))
      removals.removeAll()
      return DiskJob(ticket: ticket, operations: operations)
    }
    guard spares.count < settings.preparedSegments, preparationFailure == nil else { return nil }
    let ticket = takeTicket()
    let path = takeFile()
    maintenance = (ticket, .prepare(path: path))
    return DiskJob(
      ticket: ticket,
      operations: [
        .allocate(path: path, size: settings.segmentBytes), .syncDirectory(path: directory),
      ])
  }

  /// Lets preparing be tried again after it failed. Call it now and then, every ten seconds say.
  public mutating func retryMaintenance() {
    preparationFailure = nil
  }

  mutating func maintenanceCompleted(
    _ work: Maintenance, _ outcome: Result<[FileAnswer], PersistenceError>
  ) {
    maintenance = nil
    switch (work, outcome) {
    case (.prepare(let path), .success):
      spares.append(path)
      preparationFailure = nil
    case (.prepare(let path), .failure(let error)):
      preparationFailure = error
      removals.append(path)
    case (.remove, .success):
      break
    case (.remove, .failure(let error)):
      // A file that stays is only space lost; the next start finds it and removes or uses it.
      preparationFailure = preparationFailure ?? error
    }
  }
}
