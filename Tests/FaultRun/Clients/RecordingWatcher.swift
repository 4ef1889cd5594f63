import EtcdClient
import EtcdProto
import Primitives
import SwiftProtobuf
import Synchronization
import Verification

/// A client that watches: over one stream until that breaks or falls silent, then over another, at another member,
/// from where it stood.
struct RecordingWatcher {
  let number: Int
  let members: Int
  let recorder: Recorder
  /// What it wanted in the beginning; each stream starts where the one before it ended.
  let watch: ModelWatch
  var random: RandomSource
  private var connections = MemberConnections()

  init(number: Int, members: Int, recorder: Recorder, watch: ModelWatch, random: RandomSource) {
    self.number = number
    self.members = members
    self.recorder = recorder
    self.watch = watch
    self.random = random
  }

  /// Watches until it knows of everything up to the revision that `end` names, or until `deadline`, which both come
  /// late: when the run is over.
  ///
  /// - Returns: the first revision that it doesn't know all of.
  mutating func run(until end: WatchEnd) async -> Int64 {
    var next = watch.startRevision
    while !end.isReached(by: next) {
      let member = Int(random.below(UInt64(members)))
      var history = WatchHistory(watch.starting(at: next))
      do throws(StoreError) {
        try await follow(&history, at: member, end)
      } catch {
        recorder.note("watch, \(error.code): \(error.message.prefix(60))")
        connections.drop(member)
      }
      if let reached = history.nextRevision {
        next = max(next, reached)
        recorder.add(history)
      }
      try? await Task.sleep(for: .milliseconds(30 + Int(random.below(200))))
    }
    connections.close()
    return next
  }

  private mutating func follow(
    _ history: inout WatchHistory, at member: Int, _ end: WatchEnd
  ) async throws(StoreError) {
    let transport = try await connections.transport(to: member)
    let stream = try await transport.open("/etcdserverpb.Watch/Watch", timeout: .seconds(2))
    let life = Duration.milliseconds(2_000 + Int(random.below(12_000)))
    let attendant = StreamAttendant(stream, life: life, end)
    defer { attendant.stop() }
    try await stream.send(MemberConnections.bytes(history.watch.message))
    var next = history.watch.startRevision
    while !end.isReached(by: next) {
      guard let bytes = try await stream.next() else { return }
      attendant.heard()
      let response: Etcdserverpb_WatchResponse = try MemberConnections.message(bytes)
      if response.canceled {
        if response.compactRevision > 0 { history.append(.compacted(revision: response.compactRevision)) }
        return
      } else if response.created {
        history.append(.created(revision: response.header.revision))
      } else if response.events.isEmpty {
        history.append(.progress(revision: response.header.revision))
        next = max(next, response.header.revision + 1)
      } else {
        history.append(.events(response.events.map { ModelEvent($0) }))
        next = max(next, (response.events.last?.kv.modRevision ?? 0) + 1)
      }
    }
  }
}

/// When watchers are done.
final class WatchEnd: Sendable {
  private let revision = Atomic<Int64>(.max)
  private let deadline = Atomic<UInt64>(.max)

  /// From now on, whoever has seen everything up to `revision` is done; nobody waits for longer than this.
  func set(revision: Int64, seconds: UInt64) {
    deadline.store(Recorder.now() + seconds * 1_000_000_000, ordering: .releasing)
    self.revision.store(revision, ordering: .releasing)
  }

  func isReached(by next: Int64) -> Bool {
    next > revision.load(ordering: .acquiring) || isLate
  }

  var isLate: Bool { Recorder.now() > deadline.load(ordering: .acquiring) }
}

/// Asks a stream for its progress every second, and ends it when it is silent or has lived long enough.
private final class StreamAttendant: Sendable {
  private let lastHeard = Atomic<UInt64>(Recorder.now())
  private let task: Mutex<Task<Void, Never>?> = Mutex(nil)
  private let stream: any CallStream

  init(_ stream: any CallStream, life: Duration, _ end: WatchEnd) {
    self.stream = stream
    task.withLock {
      $0 = Task { [weak self] in
        let death = ContinuousClock.now + life
        while (try? await Task.sleep(for: .milliseconds(700))) != nil {
          guard let self else { return }
          let silence = Recorder.now() - self.lastHeard.load(ordering: .acquiring)
          if ContinuousClock.now > death || silence > 4_000_000_000 || end.isLate {
            stream.cancel()
            return
          }
          let progress = Etcdserverpb_WatchRequest.with { $0.progressRequest = .init() }
          do throws(StoreError) {
            try await stream.send(MemberConnections.bytes(progress))
          } catch { return }
        }
      }
    }
  }

  func heard() { lastHeard.store(Recorder.now(), ordering: .releasing) }

  func stop() {
    task.withLock { $0?.cancel() }
    stream.cancel()
  }
}

extension ModelWatch {
  func starting(at revision: Int64) -> ModelWatch {
    var watch = self
    watch.startRevision = revision
    return watch
  }
}
