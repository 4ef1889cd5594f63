import Primitives

extension Store {
  /// Makes a restored store the first state of a new cluster, whose log begins at index 1.
  ///
  /// - Parameter bump: how many revisions to pass over. Unless it is zero, everything below the new
  ///   revision is compacted.
  /// - Throws: `.futureRevision` for a bump below zero or past the last revision there can be.
  public func beginAnew(bump: Int64) throws(ApplyError) {
    let (revision, overflow) = root.revision.addingReportingOverflow(bump)
    guard bump >= 0, !overflow else { throw .futureRevision }
    appliedIndex = .zero
    #if PLANTED_BUGS
      if PlantedBug.restoreWithoutBump.isPlanted { return }
    #endif
    if bump == 0 { return }
    root.revision = revision
    root.compactRevision = revision
    mix(.compact, UInt64(bitPattern: revision))
  }
}
