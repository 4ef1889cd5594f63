import KubeAPI
import Logging
import Synchronization
import Testing

@testable import KubeClient

@Suite("An informer's cache", .timeLimit(.minutes(1)))
struct InformerTests {
  private let informer: Informer
  private let heard = Heard()

  private final class Heard: Sendable {
    let lines = Mutex<[String]>([])
    func take() -> [String] {
      lines.withLock { lines in
        defer { lines = [] }
        return lines
      }
    }
  }

  init() throws {
    let config = try Kubeconfig(
      text: """
        current-context: x
        contexts: [{name: x, context: {cluster: c, user: u}}]
        clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
        users: [{name: u, user: {}}]
        """, directory: "")
    informer = Informer(
      .pods, client: try APIClient(config, userAgent: "test"), log: Logger(label: "test"))
    informer.addIndex("node") { [$0["spec"]["nodeName"].string ?? ""] }
    informer.addHandler { [heard] change in
      let object = change.object["metadata"]
      let verb =
        switch change {
        case .added: "added"
        case .updated: "updated"
        case .deleted: "deleted"
        }
      heard.lines.withLock {
        $0.append("\(verb) \(object["name"].string!) \(object["uid"].string!)")
      }
    }
  }

  private func pod(_ name: String, uid: String, version: Int, node: String = "n") -> Value {
    [
      "metadata": ["name": Value(name), "uid": Value(uid), "resourceVersion": Value("\(version)")],
      "spec": ["nodeName": Value(node)],
    ]
  }

  private func names(on node: String) -> [String] {
    informer.list(index: "node", node).map { AnyObjectView($0).name }
  }

  @Test("tells what a new list changed, and nothing of what stayed")
  func relist() {
    informer.replaceAll(by: [pod("a", uid: "1", version: 1), pod("b", uid: "2", version: 2)])
    #expect(heard.take().sorted() == ["added a 1", "added b 2"])
    informer.replaceAll(by: [pod("a", uid: "1", version: 1), pod("c", uid: "3", version: 5)])
    #expect(heard.take().sorted() == ["added c 3", "deleted b 2"])
    #expect(informer.isSynced)
    #expect(informer.list().map { $0["kind"].string } == ["Pod", "Pod"])
  }

  @Test("tells an object that took a deleted one's name between two lists from the old one")
  func sameName() {
    informer.replaceAll(by: [pod("a", uid: "1", version: 1)])
    informer.replaceAll(by: [pod("a", uid: "2", version: 9, node: "m")])
    #expect(heard.take() == ["added a 1", "deleted a 1", "added a 2"])
    #expect(names(on: "n") == [])
    #expect(names(on: "m") == ["a"])
  }

  @Test("keeps its indexes in line with every change")
  func indexes() {
    informer.store(pod("b", uid: "2", version: 1))
    informer.store(pod("a", uid: "1", version: 2))
    #expect(names(on: "n") == ["a", "b"])
    informer.store(pod("a", uid: "1", version: 3, node: "m"))
    #expect(names(on: "n") == ["b"])
    #expect(names(on: "m") == ["a"])
    informer.remove(pod("b", uid: "2", version: 4))
    #expect(names(on: "n") == [])
    #expect(heard.take() == ["added b 2", "added a 1", "updated a 1", "deleted b 2"])
  }

  @Test("Who waits for the first list is let go by it, and by cancellation")
  func waiting() async {
    let informer = informer
    let cancelled = Task { await informer.waitUntilSynced() }
    try? await Task.sleep(for: .milliseconds(10))
    cancelled.cancel()
    await cancelled.value
    let waiter = Task { await informer.waitUntilSynced() }
    informer.replaceAll(by: [])
    await waiter.value
  }
}
