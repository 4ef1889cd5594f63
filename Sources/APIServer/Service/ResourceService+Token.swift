import HTTPServer
import KubeAPI
import Primitives

extension ResourceService {
  private static let tokenKind = GroupVersionKind(
    group: "authentication.k8s.io", version: "v1", kind: "TokenRequest")
  private static let shortestToken: Int64 = 600
  private static let longestToken: Int64 = 1 << 32

  /// Makes a token for a service account. Source: Kubernetes, "TokenRequest API".
  func createToken(_ call: Call) async throws(StatusError) -> HTTPResponse {
    let answers = try Answers(call.request, now: environment.now, allowsForms: false)
    _ = try WriteOptions(call.request, kind: "CreateOptions")
    let body = try RequestBody.parse(call.request, kind: Self.tokenKind).value
    guard let schema = SchemaCatalog.kubernetes.schema(for: Self.tokenKind) else {
      throw .internalError("no schema for TokenRequest")
    }
    var request: Value
    do throws(SchemaError) { request = try schema.decode(body).value } catch {
      throw .undecodable(Self.tokenKind, error.message)
    }
    guard let account = try await current(call) else { throw notFound(call) }
    request["spec"].setDefault("expirationSeconds", to: 3600)
    if request["spec"]["audiences"].isEmpty {
      request["spec"]["audiences"] = [Value(ServiceAccountTokens.issuer)]
    }
    try validate(request, account)
    let seconds = request["spec"]["expirationSeconds"].integer ?? 3600
    let now = environment.now()
    var claims = ServiceAccountTokens.Claims(
      namespace: call.namespace, account: account.name, accountUID: account.uid,
      audiences: request["spec"]["audiences"].strings, issued: now.secondsSinceEpoch,
      expires: now.secondsSinceEpoch + seconds, identifier: environment.uid())
    try await bind(&claims, request["spec"]["boundObjectRef"], call)
    let expires = Timestamp(secondsSinceEpoch: claims.expires)
    let token: String
    do { token = try tokens.sign(claims) } catch {
      throw .internalError("signing a token failed: \(error)")
    }
    request["kind"] = Value(Self.tokenKind.kind)
    request["apiVersion"] = Value(Self.tokenKind.apiVersion)
    request["metadata"] = [
      "name": Value(account.name), "namespace": Value(call.namespace),
      "creationTimestamp": Value(now),
    ]
    request["status"] = ["token": Value(token), "expirationTimestamp": Value(expires)]
    return answers.plain(request, status: 201)
  }

  private func validate(_ request: Value, _ account: StoredObject) throws(StatusError) {
    var errors: [FieldError] = []
    let metadata = FieldPath("metadata")
    for (key, own) in [("name", account.name), ("namespace", account.namespace)] {
      let given = request["metadata"][key].string ?? ""
      if !given.isEmpty, given != own {
        errors.append(
          .invalid(
            metadata.child(key), .string(given), "must match the service account \(key)"))
      }
    }
    let path = FieldPath("spec").child("expirationSeconds")
    let seconds = request["spec"]["expirationSeconds"].integer ?? 3600
    if seconds < Self.shortestToken {
      errors.append(
        .invalid(path, .integer(seconds), "may not specify a duration less than 10 minutes"))
    }
    if seconds > Self.longestToken {
      errors.append(
        .invalid(path, .integer(seconds), "may not specify a duration larger than 2^32 seconds"))
    }
    if !errors.isEmpty { throw .invalid(Self.tokenKind, name: account.name, errors) }
  }

  /// Binds a token to an object: it is good for as long as that lives.
  private func bind(
    _ claims: inout ServiceAccountTokens.Claims, _ reference: Value, _ call: Call
  ) async throws(StatusError) {
    let asker = call.user.name
    let isNode = call.user.groups.contains("system:nodes")
    guard !reference.isNull else {
      if isNode {
        throw .forbidden(
          call.resource.groupResource, name: call.info.name, why: "token not bound to a pod")
      }
      return
    }
    let kind = reference["kind"].string ?? ""
    let name = reference["name"].string ?? ""
    let plurals = ["Pod": "pods", "Secret": "secrets"]
    guard reference["apiVersion"] == "v1", let plural = plurals[kind] else {
      throw .badRequest(
        "cannot bind token to object of type \(reference["apiVersion"].string ?? ""), Kind=\(kind)")
    }
    guard let object = try await admission.find("", plural, call.namespace, name) else {
      throw .notFound(GroupResource(group: "", resource: plural), name: name)
    }
    let view = PodView(object)
    let uid = reference["uid"].string ?? ""
    if !uid.isEmpty, uid != view.uid {
      throw .conflict(
        GroupResource(group: "", resource: plural), name: name,
        why: "the UID in the bound object reference (\(uid)) does not match the UID in record. "
          + "The object might have been deleted and then recreated")
    }
    claims.bound = (kind.lowercased(), name, view.uid)
    guard kind == "Pod" else { return }
    let account = object["spec"]["serviceAccountName"].string ?? ""
    if account != claims.account {
      throw .badRequest(
        "cannot bind token for serviceaccount \(quoted(claims.account)) to pod running with "
          + "different serviceaccount name.")
    }
    if isNode, asker != "system:node:\(view.nodeName)" {
      throw .forbidden(
        call.resource.groupResource, name: call.info.name,
        why: "node requested token bound to a pod scheduled on a different node")
    }
    if !view.nodeName.isEmpty {
      let node = try await admission.find("", "nodes", "", view.nodeName)
      claims.node = (view.nodeName, node.map { AnyObjectView($0).uid } ?? "")
    }
  }

  /// The user of a token; nil where it is none of ours, or is not good any more.
  func user(of token: String) async -> UserInfo? {
    if let parts = BootstrapTokens.parse(token) {
      let secret = try? await admission.find(
        "", "secrets", BootstrapTokens.namespace, BootstrapTokens.prefix + parts.id)
      return secret.flatMap { BootstrapTokens.user(parts, $0, now: environment.now()) }
    }
    guard let claims = tokens.verify(token, now: environment.now()) else { return nil }
    do throws(StatusError) {
      guard
        let account = try await admission.find(
          "", "serviceaccounts", claims.namespace, claims.account),
        AnyObjectView(account).uid == claims.accountUID, !isLongGone(account)
      else { return nil }
      if let bound = claims.bound {
        guard
          let object = try await admission.find(
            "", bound.kind + "s", claims.namespace, bound.name),
          AnyObjectView(object).uid == bound.uid, !isLongGone(object)
        else { return nil }
      }
      return UserInfo(claims)
    } catch {
      // Who can't be asked for isn't let in.
      return nil
    }
  }

  /// Whether an object should have been gone for a minute: what holds it keeps its tokens no longer.
  private func isLongGone(_ object: Value) -> Bool {
    guard let end = object["metadata"]["deletionTimestamp"].timestamp else { return false }
    return environment.now().since(end) > .seconds(60)
  }
}
