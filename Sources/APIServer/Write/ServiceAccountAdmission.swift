import KubeAPI
import Primitives

/// Gives each new pod its service account and, unless the pod or the account declines, the means to use it: a
/// projected volume with a token, the API server's authority and the namespace, in every container at the
/// place where clients look for it.
///
/// The node asks for the token when it fills the volume, bound to the pod and renewed before it ends.
/// Source: Kubernetes, "Configure Service Accounts for Pods" and "Admission Control", ServiceAccount.
struct ServiceAccountAdmission: Sendable {
  enum Limits {
    /// A namespace's account `default` comes a moment after the namespace: looks for it, and the pause
    /// between them.
    static let defaultAccountLooks = 10
    static let pause: Duration = .milliseconds(150)
  }

  static let defaultAccount = "default"
  static let mountPath = "/var/run/secrets/kubernetes.io/serviceaccount"
  static let volumePrefix = "kube-api-access-"
  /// An hour, and a little more by which these tokens are told from those that somebody asked for.
  static let tokenSeconds: Int64 = 3_607
  /// Published in every namespace by the controllers.
  static let rootCertificates = "kube-root-ca.crt"
  static let mirrorAnnotation = "kubernetes.io/config.mirror"

  let find: Admission.Find
  /// What a refusal names: the pod's resource.
  let pods: GroupResource

  /// - Throws: 403 where the account doesn't exist, or a mirror pod wants one.
  func mutate(
    _ pod: inout Value, namespace: String, random: inout RandomSource
  ) async throws(StatusError) {
    if pod["metadata"]["annotations"].has(Self.mirrorAnnotation) { return try admitMirror(pod) }
    let given = pod["spec"]["serviceAccountName"].string ?? ""
    let old = pod["spec"]["serviceAccount"].string ?? ""
    let name = given.isEmpty ? (old.isEmpty ? Self.defaultAccount : old) : given
    pod["spec"]["serviceAccountName"] = Value(name)
    pod["spec"]["serviceAccount"] = Value(name)
    let account = try await account(name, namespace, of: pod)
    let mounts =
      pod["spec"]["automountServiceAccountToken"].bool
      ?? account["automountServiceAccountToken"].bool ?? true
    if mounts { Self.mount(&pod["spec"], random: &random) }
    if pod["spec"]["imagePullSecrets"].isEmpty, !account["imagePullSecrets"].isEmpty {
      pod["spec"]["imagePullSecrets"] = account["imagePullSecrets"]
    }
  }

  private func account(
    _ name: String, _ namespace: String, of pod: Value
  ) async throws(StatusError) -> Value {
    let looks = name == Self.defaultAccount ? Limits.defaultAccountLooks : 1
    for look in 1...looks {
      if let account = try await find("", "serviceaccounts", namespace, name) { return account }
      if look < looks { try? await Task.sleep(for: Limits.pause) }
    }
    throw refusal(
      pod,
      "error looking up service account \(namespace)/\(name): serviceaccount \(quoted(name)) not found")
  }

  /// A mirror pod shows what runs already, with what the node gave it: it can't have anything of the API's.
  private func admitMirror(_ pod: Value) throws(StatusError) {
    if !pod["spec"]["serviceAccountName"].isEmpty {
      throw refusal(pod, "a mirror pod may not reference service accounts")
    }
    if Self.namesSecrets(pod["spec"]) {
      throw refusal(pod, "a mirror pod may not reference secrets")
    }
    for volume in pod["spec"]["volumes"].elements
    where volume["projected"]["sources"].elements.contains(where: { $0.has("serviceAccountToken") }) {
      throw refusal(pod, "a mirror pod may not use ServiceAccountToken volume projections")
    }
  }

  private static func namesSecrets(_ spec: Value) -> Bool {
    if !spec["imagePullSecrets"].isEmpty { return true }
    for volume in spec["volumes"].elements {
      if volume.has("secret") { return true }
      if volume["projected"]["sources"].elements.contains(where: { $0.has("secret") }) { return true }
    }
    return containers(spec).contains { container in
      container["envFrom"].elements.contains { $0.has("secretRef") }
        || container["env"].elements.contains { $0["valueFrom"].has("secretKeyRef") }
    }
  }

  private static let lists = ["initContainers", "containers"]

  private static func containers(_ spec: Value) -> [Value] {
    lists.flatMap { spec[$0].elements }
  }

  private func refusal(_ pod: Value, _ why: String) -> StatusError {
    .forbidden(pods, name: Admission.nameForRefusals(of: pod), why: why)
  }

  // MARK: The volume

  /// Mounts the account's volume in every container that has nothing at that place.
  static func mount(_ spec: inout Value, random: inout RandomSource) {
    func isFree(_ container: Value) -> Bool {
      !container["volumeMounts"].elements.contains { $0["mountPath"].string == mountPath }
    }
    guard containers(spec).contains(where: isFree) else { return }
    let names = spec["volumes"].elements.compactMap { $0["name"].string }
    var name = names.first { $0.hasPrefix(volumePrefix) }
    if name == nil {
      var new: String
      repeat {
        new = Names.generated(from: volumePrefix, random: &random)
      } while names.contains(new)
      name = new
      spec["volumes"].append(["name": Value(new), "projected": source])
    }
    let mount: Value = ["name": Value(name), "readOnly": true, "mountPath": Value(mountPath)]
    for list in lists {
      for index in spec[list].elements.indices where isFree(spec[list][index]) {
        spec[list][index]["volumeMounts"].append(mount)
      }
    }
  }

  private static let source: Value = [
    "sources": [
      ["serviceAccountToken": ["expirationSeconds": Value(tokenSeconds), "path": "token"]],
      [
        "configMap": [
          "name": Value(rootCertificates), "items": [["key": "ca.crt", "path": "ca.crt"]],
        ]
      ],
      [
        "downwardAPI": [
          "items": [
            [
              "path": "namespace",
              "fieldRef": ["apiVersion": "v1", "fieldPath": "metadata.namespace"],
            ]
          ]
        ]
      ],
    ],
    "defaultMode": 420,
  ]
}
