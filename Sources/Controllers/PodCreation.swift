import KubeAPI
import KubeClient

/// Makes pods for a controller.
enum PodCreation {
  enum Limits {
    /// Pods that one object makes at a time, each on a connection of its own.
    static let concurrentCreations = 16
  }

  /// Makes pods in batches that double: a template that is refused is refused once, not five hundred times.
  ///
  /// What was made is expected of the cache; each is told by an event about `owner`.
  static func create(
    _ pods: [Value], of owner: Value, _ key: ObjectKey, _ context: ControllerContext,
    _ expectations: Expectations
  ) async throws {
    var left = pods[...]
    var batch = 1
    while !left.isEmpty {
      let some = left.prefix(batch)
      try await withThrowingTaskGroup(of: String.self) { group in
        for pod in some {
          group.addTask {
            let made = try await context.client.create(.pods, namespace: key.namespace, pod)
            return AnyObjectView(made).name
          }
        }
        // What was asked for along with a failure may have been made: all answers are waited for.
        var failure: (any Error)?
        while let result = await group.nextResult() {
          switch result {
          case .success(let name):
            expectations.expect(key, made: [name])
            context.events.record(
              owner, .normal, reason: "SuccessfulCreate", message: "Created pod: \(name)")
          case .failure(let error):
            if (error as? StatusError)?.isTerminating != true {
              context.events.record(
                owner, .warning, reason: "FailedCreate", message: "Error creating: \(error)")
            }
            failure = error
          }
        }
        if let failure { throw failure }
      }
      left = left.dropFirst(some.count)
      batch = min(2 * batch, Limits.concurrentCreations)
    }
  }

  /// Deletes pods, and tells of each.
  static func delete(
    _ names: [String], of owner: Value, _ key: ObjectKey, _ context: ControllerContext,
    _ expectations: Expectations
  ) async throws {
    for name in names {
      do {
        try await context.client.delete(.pods, namespace: key.namespace, name: name)
        expectations.expect(key, deleted: [name])
        context.events.record(
          owner, .normal, reason: "SuccessfulDelete", message: "Deleted pod: \(name)")
      } catch let error as StatusError where error.code == 404 {}
    }
  }

  /// Whether the cache shows what was made and deleted last.
  static func isSettled(
    _ key: ObjectKey, _ context: ControllerContext, _ expectations: Expectations
  ) -> Bool {
    expectations.areMet(key) { name in
      guard let pod = context.pods.get(namespace: key.namespace, name: name) else { return .absent }
      return PodView(pod).isBeingDeleted ? .ending : .alive
    }
  }
}
