import KubeAPI
import Logging

/// Keeps the pods running that files on the node describe, and mirrors in the API true to them.
///
/// A changed file is another pod of the same name: the one before ends first, in its own time.
actor StaticPods {
  /// How this needs the agent: starts a worker, and calls back when it has ended.
  typealias Start = @Sendable (Value, @escaping @Sendable () -> Void) -> PodWorker

  private struct Entry {
    var manifest: StaticManifest
    var worker: PodWorker
    var isEnding = false
  }

  private let path: String
  private let nodeName: String
  private let interval: Duration
  private let mirrors: MirrorPods
  private let logger: Logger
  private let start: Start
  private var entries: [String: Entry] = [:]
  private var wanted: [StaticManifest] = []
  private var problems: [String: String] = [:]
  private var hasRead = false
  private let changes: AsyncStream<Void>
  private let change: AsyncStream<Void>.Continuation

  /// - Parameters:
  ///   - path: a manifest, or a directory of them.
  ///   - interval: how often it is read though nothing told of a change.
  init(
    path: String, nodeName: String, interval: Duration, mirrors: MirrorPods, logger: Logger,
    start: @escaping Start
  ) {
    self.path = path
    self.nodeName = nodeName
    self.interval = interval
    self.mirrors = mirrors
    self.logger = logger
    self.start = start
    (changes, change) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
  }

  /// The uids of the pods that files describe.
  func uids() -> Set<String> {
    if !hasRead { read() }
    return Set(wanted.map(\.uid)).union(entries.values.map(\.manifest.uid))
  }

  func run() async {
    let watcher = FileWatcher(path) { [change] in change.yield() }
    defer { watcher?.stop() }
    let timer = Task { [change, interval] in
      while !Task.isCancelled {
        change.yield()
        try? await Task.sleep(for: interval)
      }
    }
    defer { timer.cancel() }
    for await _ in changes {
      if Task.isCancelled { return }
      read()
      reconcile()
    }
  }

  private func read() {
    let (pods, problems) = StaticManifest.read(path, nodeName: nodeName, seenAt: .wallClock())
    for (file, problem) in problems where self.problems[file] != problem {
      logger.error("the manifest \(file) can't be used: \(problem)")
    }
    self.problems = problems
    wanted = pods
    hasRead = true
  }

  private func reconcile() {
    for (key, entry) in entries where !entry.isEnding {
      if wanted.contains(where: { $0.key == key && $0.uid == entry.manifest.uid }) { continue }
      entries[key]?.isEnding = true
      Task { await entry.worker.markGone(graceSeconds: nil) }
    }
    for manifest in wanted where entries[manifest.key] == nil {
      logger.info("static pod \(manifest.key)")
      let worker = start(manifest.object) { [weak self] in
        Task { await self?.ended(manifest) }
      }
      entries[manifest.key] = Entry(manifest: manifest, worker: worker)
    }
  }

  private func ended(_ manifest: StaticManifest) async {
    guard entries[manifest.key]?.manifest.uid == manifest.uid else { return }
    do {
      try await mirrors.delete(PodManifest(manifest.object))
    } catch {
      // Its mirror comes up again as one that nothing belongs to.
      logger.debug("the mirror of \(manifest.key) stays for now: \(error)")
    }
    entries[manifest.key] = nil
    change.yield()
  }

  // MARK: Mirrors

  /// A mirror of this node was made, changed or deleted in the API.
  func mirrorChanged(_ mirror: Value, isDeleted: Bool) async {
    if !hasRead { read() }
    let metadata = mirror["metadata"]
    let shown = metadata["annotations"][StaticManifest.mirrorAnnotation].string ?? ""
    let key = "\(metadata["namespace"].string ?? "")/\(metadata["name"].string ?? "")"
    let owner =
      entries[key].map { ($0.manifest.uid, Optional($0.worker)) }
      ?? wanted.first { $0.key == key }.map { ($0.uid, nil) }
    if isDeleted {
      mirrors.forget(of: shown)
      // Whoever deleted it only deleted a picture.
      if let owner, owner.0 == shown { await owner.1?.republish() }
      return
    }
    if owner?.0 == shown, metadata["deletionTimestamp"].isNull {
      return mirrors.note(mirror, of: shown)
    }
    do { try await mirrors.remove(mirror) } catch {
      logger.warning("the mirror pod \(key) can't be removed: \(error)")
    }
  }
}
