/// Decides whether a user may do what a request asks.
protocol Authorizer: Sendable {
  /// - Returns: nil to allow; else why not, in the words that follow the refusal.
  func refusal(of info: RequestInfo, by user: UserInfo) -> String?
  /// What a user may do, as far as it can be told in rules.
  func rules(of user: UserInfo) -> [ComponentAuthorizer.Rule]
}

/// The rules of a cluster without RBAC: administrators do everything, the cluster's own components
/// what they need, every authenticated user may discover, and nobody else anything.
struct ComponentAuthorizer: Authorizer {
  /// Allows some verbs on some resources; `*` is all of them.
  struct Rule: Sendable {
    var verbs: Set<String>
    var resources: Set<String>
    /// Only in this namespace.
    var namespace: String?
    /// Only the object of this name, where the request names one.
    var name: String?

    init(
      _ verbs: Set<String>, _ resources: Set<String>, namespace: String? = nil, name: String? = nil
    ) {
      self.verbs = verbs
      self.resources = resources
      self.namespace = namespace
      self.name = name
    }

    func allows(_ info: RequestInfo) -> Bool {
      guard verbs.contains("*") || verbs.contains(info.verb),
        resources.contains("*") || resources.contains(info.resourceText)
      else { return false }
      if let namespace, info.namespace != namespace { return false }
      // A create has its name in the body; the strategies check that it is the user's own.
      if let name, !info.name.isEmpty, info.name != name { return false }
      return true
    }
  }

  private static let reads: Set<String> = ["get", "list", "watch"]
  private static let writes: Set<String> = ["create", "update", "patch", "delete"]

  // Made once: every request is judged by them.
  private static let schedulerRules = [
    Rule(reads, ["*"]),
    Rule(["create"], ["pods/binding", "bindings"]),
    Rule(["patch", "update"], ["pods/status"]),
    Rule(["delete"], ["pods"]),
    Rule(["create", "patch", "update"], ["events"]),
    Rule(writes, ["leases"], namespace: "kube-system"),
  ]
  private static let controllerRules = [Rule(["*"], ["*"])]

  func refusal(of info: RequestInfo, by user: UserInfo) -> String? {
    if user.groups.contains("system:masters") { return nil }
    if !info.isResource {
      return info.verb == "get" || info.verb == "head"
        ? nil : "User \"\(user.name)\" cannot \(info.verb) path \"\(info.path)\""
    }
    if info.verb == "create", Self.questions.contains(info.resource), !user.isAnonymous {
      return nil
    }
    if rules(for: user).contains(where: { $0.allows(info) }) { return nil }
    var text =
      "User \"\(user.name)\" cannot \(info.verb) resource \"\(info.resourceText)\" "
      + "in API group \"\(info.group)\""
    text +=
      info.namespace.isEmpty
      ? " at the cluster scope" : " in the namespace \"\(info.namespace)\""
    return text
  }

  /// What everybody may ask about themselves.
  private static let questions: Set<String> = [
    "selfsubjectaccessreviews", "selfsubjectreviews", "selfsubjectrulesreviews",
  ]

  func rules(of user: UserInfo) -> [Rule] {
    if user.groups.contains("system:masters") { return [Rule(["*"], ["*"])] }
    return rules(for: user) + [Rule(["create"], Self.questions)]
  }

  /// What a machine may do that is to become a node.
  private static let bootstrapperRules = [
    Rule(["create", "get", "list", "watch"], ["certificatesigningrequests"]),
    Rule(["get"], ["nodes"]),
  ]
  /// How anybody finds out which authority signs here; nothing in it is secret.
  private static let everybodysRules = [
    Rule(["get"], ["configmaps"], namespace: "kube-public", name: "cluster-info")
  ]

  private func rules(for user: UserInfo) -> [Rule] {
    rules(named: user) + Self.everybodysRules
      + (user.groups.contains(BootstrapTokens.group) ? Self.bootstrapperRules : [])
  }

  private func rules(named user: UserInfo) -> [Rule] {
    switch user.name {
    case "system:kube-scheduler": return Self.schedulerRules
    case "system:kube-controller-manager": return Self.controllerRules
    default:
      guard user.groups.contains("system:nodes"), user.name.hasPrefix("system:node:") else {
        return []
      }
      let node = String(user.name.dropFirst("system:node:".count))
      return [
        Rule(
          Self.reads,
          [
            "nodes", "pods", "configmaps", "secrets", "services", "endpoints", "endpointslices",
            "namespaces", "serviceaccounts", "leases", "priorityclasses",
          ]),
        Rule(["create", "update", "patch", "delete"], ["nodes"], name: node),
        Rule(["update", "patch"], ["nodes/status"], name: node),
        Rule(["create", "delete"], ["pods"]),
        Rule(["update", "patch"], ["pods/status"]),
        Rule(["create", "patch", "update"], ["events"]),
        Rule(["create"], ["pods/eviction", "serviceaccounts/token"]),
        Rule(Self.writes, ["leases"], namespace: "kube-node-lease", name: node),
        Rule(["create", "get", "list", "watch"], ["certificatesigningrequests"]),
      ]
    }
  }
}
