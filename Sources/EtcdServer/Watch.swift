import EtcdWire
import HTTP2
import MVCC
import Primitives

/// One watcher of a watch stream.
final class Watch {
  enum State {
    /// The writer has been asked for a place behind `next`.
    case asking
    /// Reading the past from views, a step at a time.
    case catchingUp
    /// The stream has too much to send; it goes on when that is out.
    case waitingForClient
    /// Standing at the writer.
    case live(WatcherID)
    case ended
  }

  unowned let stream: WatchStream
  let id: Int64
  let range: WatchRange
  let filter: WatchFilter
  let wantsPrevious: Bool
  let wantsProgress: Bool
  let fragments: Bool
  var state = State.asking
  /// Every event before this revision has been sent or is unwanted.
  var next: Revision
  /// The client has been told that the watch stands.
  var isAnnounced = false
  /// Something was sent since the last progress notification was due.
  var hasSent = false

  init(_ stream: WatchStream, id: Int64, _ request: WatchCreateRequest) {
    self.stream = stream
    self.id = id
    // An empty key means the smallest, as in etcd.
    range = WatchRange(
      key: request.key.isEmpty ? [0] : Array(request.key), rangeEnd: Array(request.rangeEnd))
    filter = request.filters
    wantsPrevious = request.wantsPrevious
    wantsProgress = request.wantsProgress
    fragments = request.fragments
    next = Revision(request.startRevision)
  }

  var isLive: Bool { if case .live = state { true } else { false } }
  var isEnded: Bool { if case .ended = state { true } else { false } }
}

/// A Watch call: its watchers, by the ids that client and server know them by.
final class WatchStream {
  let connection: GRPCServerConnection
  let stream: StreamID
  var watches: [Int64: Watch] = [:]
  var nextID: Int64 = 0
  /// The client asked how far the stream is, and the answer waits until every watcher has caught up.
  var wantsStreamProgress = false
  /// The writer has been asked for it.
  var isProgressAsked = false

  /// What the call said who makes it, as the loop numbers credentials; zero for nothing.
  let credential: UInt32
  /// Messages that wait until the member has caught up with the stream's login; nil if none need to.
  var held: [[UInt8]]?

  init(_ connection: GRPCServerConnection, _ stream: StreamID, credential: UInt32) {
    self.connection = connection
    self.stream = stream
    self.credential = credential
  }

  var isCongested: Bool {
    connection.queuedBytes(on: stream) > EtcdServerLimits.watchQueueBytes
  }
  var isCaughtUp: Bool { watches.values.allSatisfy(\.isLive) }
  var wantsProgress: Bool { watches.values.contains(where: \.wantsProgress) }
}

/// The watches of one event loop that stand at the writer, by the writer's ids.
struct LiveWatches {
  // By slot: an array holds what a dictionary would hash for each event of each watcher.
  private var entries: [(id: WatcherID, watch: Watch)?] = []

  subscript(id: WatcherID) -> Watch? {
    get {
      guard id.slot < entries.count, let entry = entries[id.slot], entry.id == id else { return nil }
      return entry.watch
    }
    set {
      while entries.count <= id.slot { entries.append(nil) }
      entries[id.slot] = newValue.map { (id, $0) }
    }
  }

  var values: some Sequence<Watch> { entries.lazy.compactMap { $0?.watch } }

  mutating func removeAll() { entries = [] }
}
