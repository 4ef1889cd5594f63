import MVCC
import Primitives

/// What a watcher asks for.
public struct WatchRequest: Sendable {
  public var range: WatchRange
  /// The first revision whose events are wanted; zero for "from now on".
  public var startRevision: Revision
  public var filter: WatchFilter
  /// Whether events carry the key's previous record.
  public var wantsPrevious: Bool

  public init(
    range: WatchRange, startRevision: Revision, filter: WatchFilter, wantsPrevious: Bool
  ) {
    self.range = range
    self.startRevision = startRevision
    self.filter = filter
    self.wantsPrevious = wantsPrevious
  }
}
