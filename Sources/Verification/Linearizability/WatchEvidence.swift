import Primitives

// What watchers know of revisions that no client was told of.

/// What one watcher was told of one revision.
struct Sighting {
  var watch: ModelWatch
  var events: [ModelEvent]
}

/// The revisions of which a stream says that it has told everything, and those at which there was something.
struct Coverage {
  let watch: ModelWatch
  var revisions: ClosedRange<Int64>
  var eventful: Set<Int64> = []

  init?(_ stream: WatchHistory) {
    watch = stream.watch
    var first: Int64?
    var last: Int64 = 0
    for message in stream.messages {
      switch message {
      case .created(let revision): first = watch.startRevision > 0 ? watch.startRevision : revision + 1
      case .events(let events):
        for event in events {
          eventful.insert(event.revision)
          last = max(last, event.revision)
        }
      case .progress(let revision): last = max(last, revision)
      case .compacted: break
      }
    }
    guard let first, first <= last else { return nil }
    revisions = first...last
  }

  /// Whether the watcher knows that nothing that it wants happened.
  func isSilent(at revision: Int64) -> Bool {
    revisions.contains(revision) && !eventful.contains(revision)
  }
}
