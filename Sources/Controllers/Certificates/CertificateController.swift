import Certification
import Foundation
import KubeAPI
import KubeClient
import Logging

/// Approves the certificates that nodes need, signs what is approved, and takes old requests and bootstrap tokens
/// away.
struct CertificateController: Sendable {
  enum Limits {
    /// Source: kube-controller-manager's `--cluster-signing-duration`.
    static let validity: TimeInterval = 365 * 86_400
    /// How often old requests and tokens are looked for.
    static let cleaning: Duration = .seconds(60)
    /// How long requests stay that are done, and those that nobody judges. Source: Kubernetes' csrcleaner.
    static let doneSeconds: Int64 = 3_600
    static let pendingSeconds: Int64 = 24 * 3_600
  }

  private let context: ControllerContext
  private let reconciler: Reconciler<ObjectKey>

  init(_ context: ControllerContext) {
    self.context = context
    let queue = WorkQueue<ObjectKey>()
    reconciler = Reconciler(
      name: "certificates", queue: queue, workers: 1, log: context.log
    ) { try await Self.reconcile($0, context) }
    context.certificateRequests.addHandler { queue.add(ObjectKey($0.object)) }
  }

  func run() async {
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await reconciler.run() }
      group.addTask {
        while !Task.isCancelled {
          try? await Task.sleep(for: Limits.cleaning)
          if Task.isCancelled { return }
          await clean()
        }
      }
    }
  }

  private static func reconcile(_ key: ObjectKey, _ context: ControllerContext) async throws {
    guard let request = context.certificateRequests.get(key) else { return }
    let plan = CertificatePlan.decide(request) { node in
      context.nodes.get(name: node).map { NodeView($0).isReady } ?? false
    }
    var updated = request
    switch plan {
    case .leave: return
    case .approve(let message):
      updated["status"]["conditions"].append(
        condition("Approved", reason: "AutoApproved", message))
      try await context.client.update(
        .certificateSigningRequests, updated, subresource: "approval")
    case .fail(let message):
      updated["status"]["conditions"].append(
        condition("Failed", reason: "SignerValidationFailure", message))
      try await context.client.update(.certificateSigningRequests, updated, subresource: "status")
    case .sign(let isServer):
      guard let authority = context.authority else { return }
      let wish = try SigningRequest(pem: CertificatePlan.text(request))
      let asked = request["spec"]["expirationSeconds"].integer.map(TimeInterval.init)
      let certificate = try authority.sign(
        CertificateAuthority.Request(
          commonName: wish.commonName, organizations: wish.organizations, isServer: isServer,
          isClient: !isServer),
        wish.publicKey, now: Date(), validity: min(asked ?? Limits.validity, Limits.validity))
      let text = try CertificateText.pem(certificate)
      updated["status"]["certificate"] = Value(Base64.encode(text.utf8))
      try await context.client.update(.certificateSigningRequests, updated, subresource: "status")
    }
  }

  private static func condition(_ type: String, reason: String, _ message: String) -> Value {
    [
      "type": Value(type), "status": "True", "reason": Value(reason), "message": Value(message),
      "lastUpdateTime": Value(Timestamp.now), "lastTransitionTime": Value(Timestamp.now),
    ]
  }

  // MARK: Cleaning

  private func clean() async {
    let now = Timestamp.now
    for request in context.certificateRequests.list() where Self.isOld(request, now: now) {
      let view = AnyObjectView(request)
      do {
        try await context.client.delete(.certificateSigningRequests, name: view.name, uid: view.uid)
      } catch {
        context.log.debug("an old request stays for now", metadata: ["error": "\(error)"])
      }
    }
    do {
      let tokens = try await context.client.list(
        .secrets, namespace: "kube-system", fieldSelector: "type=bootstrap.kubernetes.io/token")
      for secret in tokens["items"].elements where Self.isExpired(secret, now: now) {
        try await context.client.delete(
          .secrets, namespace: "kube-system", name: AnyObjectView(secret).name,
          uid: AnyObjectView(secret).uid)
      }
    } catch {
      context.log.debug("bootstrap tokens were not cleaned", metadata: ["error": "\(error)"])
    }
  }

  static func isOld(_ request: Value, now: Timestamp) -> Bool {
    guard let created = request["metadata"]["creationTimestamp"].timestamp else { return false }
    let isJudged =
      !request["status"]["conditions"].isEmpty || !request["status"]["certificate"].isEmpty
    let limit = isJudged ? Limits.doneSeconds : Limits.pendingSeconds
    return now.since(created) > .seconds(limit)
  }

  static func isExpired(_ secret: Value, now: Timestamp) -> Bool {
    guard let bytes = secret["data"]["expiration"].string.flatMap({ Base64.decode($0) }) else {
      return false
    }
    guard let end = try? Timestamp(String(decoding: bytes, as: UTF8.self)) else { return true }
    return end <= now
  }
}
