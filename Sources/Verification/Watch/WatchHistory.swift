import Primitives

/// What a watcher asked for.
public struct ModelWatch: Hashable, Sendable {
  public var range: ModelRange
  /// The first revision that is wanted; zero for "from now on".
  public var startRevision: Int64
  public var wantsPuts: Bool
  public var wantsDeletes: Bool
  public var wantsPrevious: Bool

  public init(
    _ range: ModelRange, startRevision: Int64 = 0, wantsPuts: Bool = true,
    wantsDeletes: Bool = true, wantsPrevious: Bool = false
  ) {
    self.range = range
    self.startRevision = startRevision
    self.wantsPuts = wantsPuts
    self.wantsDeletes = wantsDeletes
    self.wantsPrevious = wantsPrevious
  }

  func wants(_ event: ModelEvent) -> Bool {
    range.contains(event.record.key) && (event.isDelete ? wantsDeletes : wantsPuts)
  }
}

/// All that one watch stream was told, in order. A client that reconnects begins another.
public struct WatchHistory: Sendable {
  public enum Message: Hashable, Sendable {
    /// The watch stands; every event after this revision (and from the start that was asked for) follows.
    case created(revision: Int64)
    /// A response with events; none is divided between two.
    case events([ModelEvent])
    /// Every event up to this revision was sent.
    case progress(revision: Int64)
    /// The watch ended, because what it wanted is compacted up to this revision.
    case compacted(revision: Int64)
  }

  public let watch: ModelWatch
  public private(set) var messages: [Message] = []

  public init(_ watch: ModelWatch) { self.watch = watch }

  public mutating func append(_ message: Message) { messages.append(message) }

  /// Where a client that has this history goes on after its stream broke: one past the last revision of
  /// which it knows that it has seen everything. Nil before the watch stood.
  public var nextRevision: Int64? {
    var next: Int64?
    for message in messages {
      switch message {
      case .created(let revision):
        next = watch.startRevision > 0 ? watch.startRevision : revision + 1
      case .events(let events):
        for event in events { next = max(next ?? 0, event.revision + 1) }
      case .progress(let revision): next = max(next ?? 0, revision + 1)
      case .compacted(let revision): next = max(next ?? 0, revision)
      }
    }
    return next
  }
}

/// The promises to watchers, by the names that etcd's documentation gives them.
/// Source: etcd, "API guarantees", Watch APIs.
public enum WatchGuarantee: String, Sendable, CaseIterable {
  /// Events come in the order of their revisions.
  case ordered = "Ordered"
  /// No event comes twice on a stream.
  case unique = "Unique"
  /// The events of one revision come in one response.
  case atomic = "Atomic"
  /// No event between two that came is missing, and each is what really happened.
  case reliable = "Reliable"
  /// A stream begins with the first event at or after the revision that was asked for.
  case resumable = "Resumable"
  /// After a progress notification no event of that or an earlier revision comes, and none is missing.
  case bookmarkable = "Bookmarkable"
  /// An event carries what was there before, if that was asked for.
  case prevKV = "PrevKV"
  /// Only events of the wanted keys and kinds come.
  case filter = "Filter"
}
