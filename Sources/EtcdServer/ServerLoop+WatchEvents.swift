import EtcdWire
import HTTP2
import MVCC
import NIOCore
import Primitives
import Replica

// The events of watchers: those of the past, a step at a time, and those of the present, as the writer delivers
// them. How the two join is told in `ServerLoop+Watch.swift`.

extension ServerLoop {
  // MARK: The past

  /// Sends one step of what `view` holds from `watch.next` on, and goes on in the next turn.
  func catchUp(_ watch: Watch, in view: StoreView) {
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
}
