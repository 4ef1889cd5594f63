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
      if stream.watches[request.watchID] != nil {
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
  func start(_ watch: Watch, in view: StoreView) {
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

  func ask(_ watch: Watch) {
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

  func cancelCompacted(_ watch: Watch, _ revision: Revision) {
    var response = WatchResponse()
    response.watchID = watch.id
    response.canceled = true
    response.compactRevision = max(revision.rawValue, 1)
    send(response, to: watch.stream, front.view.revision)
    watch.stream.watches[watch.id] = nil
    leave(watch)
    askProgress(watch.stream)
  }

  func send(_ response: WatchResponse, to stream: WatchStream, _ revision: Revision) {
    setHeader(revision, front.status.term)
    response.append(to: &header)
    header.withUnsafeBytes { _ = stream.connection.send(stream.stream, $0) }
    noteUnflushed(stream.connection)
  }

  // MARK: Progress

  /// Asks the writer how far the stream is, once all its watchers stand there: only then does the answer
  /// come behind every event that it vouches for.
  func askProgress(_ stream: WatchStream) {
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
