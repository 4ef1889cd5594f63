import EtcdWire
import HTTP2
import MVCC
import NIOCore
import Primitives
import Replica

// The Watch service
// =================
//
// A watcher lives in two places in turn. *Live*, it stands in the writer's registry and gets the events of
// each applied batch, encoded once for all watchers. *Behind*, it reads the past from a published view
// on its own loop, a bounded step at a time, and asks the writer for a place when it has reached the
// view's end; if the writer has moved on meanwhile, the answer is a newer view. So no watcher's past,
// however long, costs the writer anything.
//
//     create ──▶ asking ──▶ live ──(client too slow)──▶ waitingForClient
//                  ▲ │                                       │ queue sent
//                  │ └─(behind)─▶ catchingUp ◀───────────────┘
//                  └───────────────────┘ end of the view
//
// `next` alone says where a watcher is: every event before it was sent or is unwanted, whichever way it
// came. That makes the guarantees of the API easy to see: events are *ordered* (each way delivers in order,
// and a watcher is on one at a time), *unique* (what lies before `next` is dropped), *reliable*
// (`watching(after:)` joins the two ways without a gap), *atomic* (responses are cut at revisions'
// ends, or marked as fragments where the client allows it).

extension ServerLoop {
  func received(_ message: UnsafeRawBufferPointer, on stream: WatchStream) {
    if let held = stream.held {
      if held.count < EtcdServerLimits.heldMessages {
        stream.held?.append(Array(message))
      } else {
        fail(stream.connection, stream.stream, .watch, EtcdError.tooManyRequests)
      }
      return
    }
    do throws(WireError) {
      switch try EtcdWire.WatchRequest(message).request {
      case .none: break
      case .create(let request): create(request, on: stream)
      case .cancel(let id): cancel(id, on: stream)
      case .progress:
        stream.wantsStreamProgress = true
        askProgress(stream)
      }
    } catch {
      watchStreams[StreamKey(stream.connection, stream.stream)] = nil
      end(stream)
      fail(stream.connection, stream.stream, .watch, GRPCStatus(error))
    }
  }

  // MARK: Creating and cancelling

  private func create(_ request: WatchCreateRequest, on stream: WatchStream) {
    if front.isAuthEnabled {
      let key: [UInt8] = request.key.isEmpty ? [0] : Array(request.key)
      let reason = key.withUnsafeBytes {
        refusal(KeyRange(key: $0, rangeEnd: request.rangeEnd), on: stream)
      }
      if let reason {
        refuse(stream, id: -1, reason)
        return
      }
    }
    if request.startRevision < 0 {
      refuse(stream, id: -1, EtcdError.compacted.text)
      return
    }
    let range = request.range
    if !range.isSingleKey, !range.isUnbounded, !range.key.precedes(range.rangeEnd) {
      refuse(stream, id: -1, "mvcc: watcher range is empty")
      return
    }
    if stream.watches.count >= EtcdServerLimits.watchersPerStream {
      refuse(stream, id: -1, EtcdError.tooManyRequests.text)
      return
    }
    let id: Int64
    if request.watchID != 0 {
      if stream.watches[request.watchID] != nil || request.watchID < 0 {
        refuse(stream, id: -1, "mvcc: duplicate watch ID provided on the WatchStream")
        return
      }
      id = request.watchID
    } else {
      while stream.watches[stream.nextID] != nil { stream.nextID += 1 }
      id = stream.nextID
      stream.nextID += 1
    }
    let watch = Watch(stream, id: id, request)
    stream.watches[id] = watch
    metrics.watchers += 1
    start(watch, in: front.view)
  }

  /// Announces a watch that doesn't come to stand.
  private func refuse(_ stream: WatchStream, id: Int64, _ reason: String) {
    var response = WatchResponse()
    response.watchID = id
    response.created = true
    response.canceled = true
    var reason = reason
    reason.withUTF8 { text in
      response.cancelReason = UnsafeRawBufferPointer(text)
      send(response, to: stream, front.view.revision)
    }
  }

  private func cancel(_ id: Int64, on stream: WatchStream) {
    guard let watch = stream.watches.removeValue(forKey: id) else { return }
    // The writer's answer may still be under way, but the client is owed one of its own.
    announce(watch, front.view.revision)
    leave(watch)
    var response = WatchResponse()
    response.watchID = id
    response.canceled = true
    send(response, to: stream, front.view.revision)
    askProgress(stream)
  }

  /// Takes all watchers of a stream away.
  func end(_ stream: WatchStream) {
    for watch in stream.watches.values { leave(watch) }
    stream.watches = [:]
  }

  private func leave(_ watch: Watch) {
    if case .live(let id) = watch.state {
      liveWatches[id] = nil
      front.cancelWatch(id)
    }
    watch.state = .ended
    metrics.watchers -= 1
  }

  /// Begins at `watch.next`, of which `view` may hold the past.
  private func start(_ watch: Watch, in view: StoreView) {
    if watch.next > .zero, watch.next <= view.revision {
      announce(watch, view.revision)
      catchUp(watch, in: view)
    } else {
      ask(watch)
    }
  }

  private func announce(_ watch: Watch, _ revision: Revision) {
    if watch.isAnnounced { return }
    watch.isAnnounced = true
    var response = WatchResponse()
    response.watchID = watch.id
    response.created = true
    send(response, to: watch.stream, revision)
  }

  // MARK: The way to the writer

  private func ask(_ watch: Watch) {
    watch.state = .asking
    let request = Replica.WatchRequest(
      range: watch.range, startRevision: watch.next, filter: watch.filter,
      wantsPrevious: watch.wantsPrevious)
    front.watch(request, token: reserve(.watch(watch)), sink: sink)
  }

  func watching(_ token: UInt64, _ id: WatcherID, after: Revision) {
    guard let watch = takeWatch(token), !watch.isEnded else {
      front.cancelWatch(id)
      return
    }
    // A start in the future keeps its `next`, so that what comes before it is dropped.
    if watch.next <= after { watch.next = after.next }
    watch.state = .live(id)
    liveWatches[id] = watch
    announce(watch, min(after, front.view.revision))
    askProgress(watch.stream)
  }

  func watchBehind(_ token: UInt64, _ view: StoreView) {
    guard let watch = takeWatch(token), !watch.isEnded else { return }
    if watch.next == .zero { watch.next = view.revision.next }
    start(watch, in: view)
  }

  func watchCompacted(_ token: UInt64, _ revision: Revision) {
    guard let watch = takeWatch(token), !watch.isEnded else { return }
    announce(watch, front.view.revision)
    cancelCompacted(watch, revision)
  }

  func watchFailed(_ watch: Watch, _ error: ReplicaError) {
    guard !watch.isEnded else { return }
    let status = GRPCStatus(error)
    if watch.isAnnounced {
      var response = WatchResponse()
      response.watchID = watch.id
      response.canceled = true
      var reason = status.message
      reason.withUTF8 { text in
        response.cancelReason = UnsafeRawBufferPointer(text)
        send(response, to: watch.stream, front.view.revision)
      }
    } else {
      refuse(watch.stream, id: watch.id, status.message)
    }
    watch.stream.watches[watch.id] = nil
    leave(watch)
  }

  /// Every live watcher of this member missed events.
  func watchesLost(compacted revision: Revision) {
    for watch in liveWatches.values {
      watch.state = .asking
      cancelCompacted(watch, revision)
    }
    liveWatches.removeAll()
  }

  private func cancelCompacted(_ watch: Watch, _ revision: Revision) {
    var response = WatchResponse()
    response.watchID = watch.id
    response.canceled = true
    response.compactRevision = max(revision.rawValue, 1)
    send(response, to: watch.stream, front.view.revision)
    watch.stream.watches[watch.id] = nil
    leave(watch)
    askProgress(watch.stream)
  }

  // MARK: The past

  /// Sends one step of what `view` holds from `watch.next` on, and goes on in the next turn.
  private func catchUp(_ watch: Watch, in view: StoreView) {
    watch.state = .catchingUp
    guard watch.next <= view.revision else {
      ask(watch)
      return
    }
    if watch.stream.isCongested {
      watch.state = .waitingForClient
      return
    }
    do throws(ApplyError) {
      let run = try view.events(
        from: watch.next, through: view.revision, in: watch.range, filter: watch.filter,
        wantsPrevious: watch.wantsPrevious, byteLimit: EtcdServerLimits.catchUpBytes,
        eventLimit: EtcdServerLimits.catchUpEvents)
      send(run, to: watch, view.revision)
    } catch {
      cancelCompacted(watch, view.compactRevision)
      return
    }
    if watch.next > view.revision {
      ask(watch)
      return
    }
    let bound = NIOLoopBound((self, watch, view), eventLoop: eventLoop)
    eventLoop.execute {
      let (loop, watch, view) = bound.value
      if !watch.isEnded { loop.catchUp(watch, in: view) }
    }
  }

  /// The stream's queue is sent: its watchers go on from where they stopped.
  func resume(_ stream: WatchStream) {
    for watch in stream.watches.values {
      if case .waitingForClient = watch.state { start(watch, in: front.view) }
    }
    flush()
  }

  // MARK: The present

  /// Sends the events of `run` from `watch.next` on, in responses cut at revisions' ends.
  func send(_ run: EventRun, to watch: Watch, _ revision: Revision) {
    let parts = run.parts
    var first = parts.firstIndex { $0.revision >= watch.next } ?? parts.count
    while first < parts.count {
      var end = first
      var size = 0
      while end < parts.count {
        // All of one revision, or nothing of it.
        var next = end
        var revisionSize = 0
        while next < parts.count, parts[next].revision == parts[end].revision {
          revisionSize += parts[next].range.count
          next += 1
        }
        if end > first, size + revisionSize > EtcdServerLimits.watchResponseBytes { break }
        size += revisionSize
        end = next
      }
      sendParts(run, first..<end, size, to: watch, max(revision, parts[end - 1].revision))
      first = end
    }
    if run.through >= watch.next { watch.next = run.through.next }
  }

  private func sendParts(
    _ run: EventRun, _ range: Range<Int>, _ size: Int, to watch: Watch, _ revision: Revision
  ) {
    let limit = settings.maxRequestBytes
    watch.hasSent = true
    guard watch.fragments, size > limit else {
      sendEvents(run, run.parts[range].map(\.range), to: watch, revision, isFragment: false)
      return
    }
    let events = run.parts[range].flatMap { Self.eventRanges(in: $0, of: run.bytes) }
    var start = 0
    while start < events.count {
      var end = start + 1
      var bytes = events[start].count
      while end < events.count, bytes + events[end].count <= limit {
        bytes += events[end].count
        end += 1
      }
      sendEvents(
        run, events[start..<end], to: watch, revision, isFragment: end < events.count)
      start = end
    }
  }

  /// Where each event of a part lies: fields 11, one behind the other.
  private static func eventRanges(in part: EventRun.Part, of bytes: [UInt8]) -> [Range<Int>] {
    bytes.withUnsafeBytes { bytes in
      var reader = ByteReader(UnsafeRawBufferPointer(rebasing: bytes[part.range]))
      var ranges: [Range<Int>] = []
      while !reader.isAtEnd {
        let start = reader.offset
        guard (try? reader.readVarint()) != nil, (try? reader.readLengthPrefixed()) != nil else {
          invariantFailure("events that the store encoded can't be read")
        }
        let base = part.range.lowerBound
        ranges.append((base + start)..<(base + reader.offset))
      }
      return ranges
    }
  }

  private func sendEvents(
    _ run: EventRun, _ ranges: some BidirectionalCollection<Range<Int>>, to watch: Watch,
    _ revision: Revision, isFragment: Bool
  ) {
    setHeader(revision, front.status.term)
    header.append(field: 2, int64: watch.id)
    header.append(field: 7, bool: isFragment)
    let stream = watch.stream
    header.withUnsafeBytes { header in
      run.bytes.withUnsafeBytes { bytes in
        // Usually they lie one behind the other, and go out as they are.
        var whole: Range<Int>?
        var isContiguous = true
        for range in ranges {
          guard let before = whole else {
            whole = range
            continue
          }
          isContiguous = before.upperBound == range.lowerBound
          if !isContiguous { break }
          whole = before.lowerBound..<range.upperBound
        }
        if isContiguous, let whole {
          stream.connection.send(
            stream.stream, header, UnsafeRawBufferPointer(rebasing: bytes[whole]))
        } else {
          var gathered: [UInt8] = []
          for range in ranges { gathered.append(contentsOf: bytes[range]) }
          gathered.withUnsafeBytes { _ = stream.connection.send(stream.stream, header, $0) }
        }
        metrics.sentBytes &+= UInt64(ranges.reduce(header.count) { $0 &+ $1.count })
      }
    }
    noteUnflushed(stream.connection)
  }

  private func send(_ response: WatchResponse, to stream: WatchStream, _ revision: Revision) {
    setHeader(revision, front.status.term)
    response.append(to: &header)
    header.withUnsafeBytes { _ = stream.connection.send(stream.stream, $0) }
    noteUnflushed(stream.connection)
  }

  // MARK: Progress

  /// Asks the writer how far the stream is, once all its watchers stand there: only then does the answer
  /// come behind every event that it vouches for.
  private func askProgress(_ stream: WatchStream) {
    guard stream.wantsStreamProgress, !stream.isProgressAsked, stream.isCaughtUp else { return }
    stream.isProgressAsked = true
    front.requestProgress(token: reserve(.progress(stream)), sink: sink)
  }

  func progressed(_ token: UInt64, _ revision: Revision) {
    switch takePurpose(token) {
    case .progress(let stream):
      stream.isProgressAsked = false
      // A watcher may have fallen behind since, or been created.
      guard stream.isCaughtUp else { return }
      stream.wantsStreamProgress = false
      var response = WatchResponse()
      response.watchID = -1
      send(response, to: stream, revision)
    case .progressTick:
      for stream in watchStreams.values {
        for watch in stream.watches.values where watch.wantsProgress {
          if watch.isLive, !watch.hasSent, watch.next <= revision.next {
            var response = WatchResponse()
            response.watchID = watch.id
            send(response, to: stream, revision)
          }
          watch.hasSent = false
        }
      }
    default: break
    }
  }
}
