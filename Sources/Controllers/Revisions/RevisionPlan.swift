import KubeAPI
import KubeClient

/// The history of a DaemonSet's or StatefulSet's templates, each in a ControllerRevision.
///
/// The current template has the highest number: an older one that comes back (`kubectl rollout undo`) gets
/// a new number, not a new object.
struct RevisionPlan: Equatable {
  /// The revision of the template as it is now.
  var currentName = ""
  var currentNumber: Int64 = 0
  var create: Value?
  /// A revision that gets a new number.
  var renumber: (name: String, number: Int64)?
  /// Old revisions that the history has no room for.
  var delete: [String] = []

  static let hashLabel = "controller-revision-hash"

  static func == (left: RevisionPlan, right: RevisionPlan) -> Bool {
    left.currentName == right.currentName && left.currentNumber == right.currentNumber
      && left.create == right.create && left.renumber?.name == right.renumber?.name
      && left.delete == right.delete
  }

  /// - Parameters:
  ///   - revisions: those that `owner` controls.
  ///   - used: names of revisions that pods still have.
  static func decide(_ owner: AnyObjectView, revisions: [Value], used: Set<String>) -> RevisionPlan
  {
    let data = data(of: owner.object)
    let sorted = revisions.sorted { number($0) < number($1) }
    var plan = RevisionPlan()
    let highest = sorted.last.map(number) ?? 0
    let hash = TemplateHash.name(
      of: owner.object["spec"]["template"],
      collisions: owner.object["status"]["collisionCount"].integer ?? 0)
    if let known = sorted.last(where: { $0["data"] == data }) {
      plan.currentName = AnyObjectView(known).name
      plan.currentNumber = number(known)
      if number(known) < highest {
        plan.currentNumber = highest + 1
        plan.renumber = (plan.currentName, highest + 1)
      }
    } else {
      plan.currentName = "\(owner.name)-\(hash)"
      plan.currentNumber = highest + 1
      plan.create = revision(owner, name: plan.currentName, hash: hash, highest + 1, data)
    }
    let limit = owner.object["spec"]["revisionHistoryLimit"].integer ?? 10
    let spare = sorted.filter {
      let name = AnyObjectView($0).name
      return name != plan.currentName && !used.contains(name) && !AnyObjectView($0).isBeingDeleted
    }
    let surplus = Int64(spare.count) - max(0, limit)
    if surplus > 0 { plan.delete = spare.prefix(Int(surplus)).map { AnyObjectView($0).name } }
    return plan
  }

  static func number(_ revision: Value) -> Int64 { revision["revision"].integer ?? 0 }

  /// The patch that brings an object back to this template: what `kubectl rollout undo` applies.
  private static func data(of object: Value) -> Value {
    var template = object["spec"]["template"]
    template["$patch"] = "replace"
    return ["spec": ["template": template]]
  }

  /// The template that a revision holds.
  static func template(in revision: Value) -> Value {
    var template = revision["data"]["spec"]["template"]
    template.remove("$patch")
    return template
  }

  private static func revision(
    _ owner: AnyObjectView, name: String, hash: String, _ number: Int64, _ data: Value
  ) -> Value {
    var labels = owner.object["spec"]["template"]["metadata"]["labels"]
    labels[hashLabel] = Value(hash)
    var metadata: Value = [
      "name": Value(name), "namespace": Value(owner.namespace), "labels": labels,
      "ownerReferences": [OwnerReference(controller: owner.object).value],
    ]
    var annotations = owner.annotations
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration")
    if !annotations.isEmpty { metadata["annotations"] = annotations }
    return [
      "kind": "ControllerRevision", "apiVersion": "apps/v1", "metadata": metadata, "data": data,
      "revision": Value(number),
    ]
  }

  /// The label that tells pods of a revision: its hash, which is the end of its name.
  static func hash(of name: String, owner: String) -> String {
    name.hasPrefix(owner + "-") ? String(name.dropFirst(owner.count + 1)) : name
  }

  // MARK: Carrying it out

  /// Makes and numbers revisions.
  ///
  /// - Returns: false where the name of a new one is taken by another template.
  func carryOut(_ owner: AnyObjectView, _ context: ControllerContext) async throws -> Bool {
    if let create {
      do {
        try await context.client.create(
          .controllerRevisions, namespace: owner.namespace, create)
      } catch let error as StatusError where error.reason == .alreadyExists {
        let existing = try await context.client.get(
          .controllerRevisions, namespace: owner.namespace, name: currentName)
        return existing["data"] == create["data"]
          && AnyObjectView(existing).controller?.uid == owner.uid
      }
    }
    if let renumber {
      try await context.client.patch(
        .controllerRevisions, namespace: owner.namespace, name: renumber.name, .merge,
        ["revision": Value(renumber.number)])
    }
    return true
  }

  func cleanUp(namespace: String, _ context: ControllerContext) async throws {
    for name in delete {
      do {
        try await context.client.delete(.controllerRevisions, namespace: namespace, name: name)
      } catch let error as StatusError where error.code == 404 {}
    }
  }
}
