import KubeAPI
import KubeClient
import Logging
import Synchronization

/// A config map or secret that a pod's volumes show.
public struct ObjectReference: Hashable, Sendable {
  public enum Kind: Sendable, Hashable {
    case configMap, secret
  }
  public var kind: Kind
  public var namespace: String
  public var name: String

  public init(_ kind: Kind, namespace: String, name: String) {
    self.kind = kind
    self.namespace = namespace
    self.name = name
  }
}

/// Watches the objects that the node's pods refer to: one watch an object, however many pods show it.
final class ReferencedObjects: Sendable {
  private struct Entry {
    var task: Task<Void, Never>
    /// What to call, by the pod's uid.
    var followers: [String: @Sendable () -> Void] = [:]
  }
  private let client: APIClient
  private let log: Logger
  private let entries = Mutex<[ObjectReference: Entry]>([:])

  init(client: APIClient, log: Logger) {
    self.client = client
    self.log = log
  }

  /// Makes these the objects whose changes a pod hears of; none forgets the pod.
  func follow(
    _ references: Set<ObjectReference>, pod uid: String, changed: @escaping @Sendable () -> Void
  ) {
    let ended: [Task<Void, Never>] = entries.withLock { entries in
      var ended: [Task<Void, Never>] = []
      for reference in entries.keys where !references.contains(reference) {
        entries[reference]?.followers[uid] = nil
        if entries[reference]?.followers.isEmpty == true, let entry = entries[reference] {
          ended.append(entry.task)
          entries[reference] = nil
        }
      }
      for reference in references {
        if entries[reference] == nil { entries[reference] = Entry(task: watch(reference)) }
        entries[reference]?.followers[uid] = changed
      }
      return ended
    }
    for task in ended { task.cancel() }
  }

  private func watch(_ reference: ObjectReference) -> Task<Void, Never> {
    let informer = Informer(
      reference.kind == .secret ? .secrets : .configMaps, client: client,
      namespace: reference.namespace, fieldSelector: "metadata.name=\(reference.name)", log: log)
    informer.addHandler { [weak self] _ in
      let followers = self?.entries.withLock { $0[reference]?.followers.values.map(\.self) } ?? []
      for changed in followers { changed() }
    }
    return Task { await informer.run() }
  }
}
