import HTTPServer
import KubeAPI
import Primitives
import Synchronization

/// `/livez`, `/readyz` and `/healthz`: whether to restart the server, and whether to send it requests.
///
/// Answers are plain text, `ok` or a list of what failed; `?verbose` lists all, and each check also has
/// a path of its own, such as `/readyz/etcd`.
final class HealthChecks: Sendable {
  private struct State {
    var isBootstrapped = false
    var isStopping = false
    /// When the store answered last, and what went wrong since.
    var storeAnswered: ContinuousClock.Instant?
    var storeTrouble: String?
  }
  private let state = Mutex(State())
  private let cache: WatchCache

  init(cache: WatchCache) { self.cache = cache }

  func noteBootstrapped() { state.withLock { $0.isBootstrapped = true } }
  func noteStopping() { state.withLock { $0.isStopping = true } }
  func noteStoreAnswered() {
    state.withLock { state in
      state.storeAnswered = .now
      state.storeTrouble = nil
    }
  }
  func noteStore(trouble: String) { state.withLock { $0.storeTrouble = trouble } }

  /// A store that is asked every two seconds and hasn't answered for longer than this has failed.
  private static let storeSilence: Duration = .seconds(6)

  private static func storeFailure(_ state: State) -> String? {
    if let trouble = state.storeTrouble { return trouble }
    guard let answered = state.storeAnswered else { return "the store has not answered yet" }
    let silence = ContinuousClock.now - answered
    return silence > storeSilence
      ? "the store has not answered for \(silence.components.seconds) s" : nil
  }

  private typealias Check = (name: String, failure: String?)

  private func checks(_ endpoint: String) -> [Check] {
    let state = state.withLock { $0 }
    var checks: [Check] = [("ping", nil), ("etcd", Self.storeFailure(state))]
    // A server that has lost its store is not helped by a restart.
    if endpoint == "livez" { checks.removeLast() }
    if endpoint == "readyz" {
      checks.append(("shutdown", state.isStopping ? "the server is shutting down" : nil))
    }
    if endpoint != "livez" {
      checks.append(("watch-cache", cache.isReady ? nil : "the cache is not filled yet"))
      checks.append(
        (
          "poststarthook/start-system-namespaces",
          state.isBootstrapped ? nil : "the system namespaces are not there yet"
        ))
    }
    return checks
  }

  /// - Returns: nil for paths that are not about health.
  func answer(_ target: RequestTarget) -> HTTPResponse? {
    guard let endpoint = target.segments.first, ["livez", "readyz", "healthz"].contains(endpoint)
    else { return nil }
    let checks = checks(endpoint)
    if target.segments.count > 1 {
      let name = target.segments.dropFirst().joined(separator: "/")
      guard let check = checks.first(where: { $0.name == name }) else { return nil }
      return text(check.failure == nil ? 200 : 500, check.failure ?? "ok")
    }
    let excluded = Set(target.values(of: "exclude"))
    let considered = checks.filter { !excluded.contains($0.name) }
    let hasFailed = considered.contains { $0.failure != nil }
    if !hasFailed && target.value(of: "verbose") == nil { return text(200, "ok") }
    var lines = considered.map { check in
      check.failure.map { "[-]\(check.name) failed: \($0)" } ?? "[+]\(check.name) ok"
    }
    lines.append("\(endpoint) check \(hasFailed ? "failed" : "passed")")
    return text(hasFailed ? 500 : 200, lines.joined(separator: "\n") + "\n")
  }

  private func text(_ status: Int, _ text: String) -> HTTPResponse {
    HTTPResponse(
      status: status, fields: ["Content-Type": "text/plain; charset=utf-8"],
      body: .bytes(Array(text.utf8)))
  }
}
