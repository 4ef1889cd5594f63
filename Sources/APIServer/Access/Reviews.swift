import HTTPServer
import KubeAPI

/// Answers what a user, or another one, is and may: kinds that are only questions, never stored.
///
/// | kind | question | kubectl |
/// |---|---|---|
/// | SelfSubjectReview | who am I? | `auth whoami` |
/// | TokenReview | whose token is this? | |
/// | SelfSubjectAccessReview | may I do this? | `auth can-i` |
/// | SubjectAccessReview, LocalSubjectAccessReview | may somebody? | |
/// | SelfSubjectRulesReview | what may I do at all? | `auth can-i --list` |
struct Reviews: Sendable {
  let authenticator: Authenticator
  let authorizer: any Authorizer
  let environment: ResourceService.Environment

  func answer(_ call: ResourceService.Call) async throws(StatusError) -> HTTPResponse {
    let answers = try Answers(call.request, now: environment.now, allowsForms: false)
    let options = try WriteOptions(call.request, kind: "CreateOptions")
    let body = try RequestBody(call.request, of: call.resource)
    let warnings = try body.judge(options.fieldValidation) {
      .strict(call.resource.kind, unknown: $0, duplicates: $1)
    }
    var review = body.value
    let spec = review["spec"]
    switch call.resource.kind.kind {
    case "SelfSubjectReview":
      review["metadata"]["creationTimestamp"] = Value(environment.now())
      review["status"] = ["userInfo": Self.value(of: call.user)]
    case "TokenReview": review["status"] = await tokenStatus(spec)
    case "SelfSubjectAccessReview": review["status"] = access(spec, by: call.user)
    case "SelfSubjectRulesReview": review["status"] = rules(of: call.user)
    default:
      let user = UserInfo(
        name: spec["user"].string ?? "", uid: spec["uid"].string ?? "",
        groups: spec["groups"].strings)
      if user.name.isEmpty, user.groups.isEmpty {
        throw .invalid(
          call.resource.kind, name: "",
          [
            .invalid(
              FieldPath("spec").child("user"), .string(""),
              "at least one of user or group must be specified")
          ])
      }
      review["status"] = access(spec, by: user)
    }
    return answers.plain(review, status: 201).warning(warnings)
  }

  private static func value(of user: UserInfo) -> Value {
    var value: Value = ["username": Value(user.name)]
    if !user.uid.isEmpty { value["uid"] = Value(user.uid) }
    if !user.groups.isEmpty { value["groups"] = Value(user.groups) }
    for (key, values) in user.extra.sorted(by: { $0.key < $1.key }) {
      value["extra"][key] = Value(values)
    }
    return value
  }

  private func tokenStatus(_ spec: Value) async -> Value {
    let token = spec["token"].string ?? ""
    guard !token.isEmpty, let user = await authenticator.user(ofToken: token) else {
      return ["user": [:], "error": "[invalid bearer token]"]
    }
    let audiences = spec["audiences"].strings
    let known = audiences.filter { $0 == ServiceAccountTokens.issuer }
    if !audiences.isEmpty, known.isEmpty {
      return [
        "user": [:],
        "error": Value("token audiences [] is invalid for the target audiences \(audiences)"),
      ]
    }
    var status: Value = ["authenticated": true, "user": Self.value(of: user)]
    if !known.isEmpty { status["audiences"] = Value(known) }
    return status
  }

  private func access(_ spec: Value, by user: UserInfo) -> Value {
    let info: RequestInfo
    if !spec["resourceAttributes"].isNull {
      info = RequestInfo(attributes: spec["resourceAttributes"])
    } else {
      let path = spec["nonResourceAttributes"]["path"].string ?? ""
      info = RequestInfo(path: path, verb: spec["nonResourceAttributes"]["verb"].string ?? "get")
    }
    if let why = authorizer.refusal(of: info, by: user) {
      return ["allowed": false, "reason": Value(why)]
    }
    return ["allowed": true]
  }

  private func rules(of user: UserInfo) -> Value {
    let rules = authorizer.rules(of: user)
    return [
      "incomplete": false,
      "nonResourceRules": [["verbs": ["get"], "nonResourceURLs": ["*"]]],
      "resourceRules": .array(
        rules.map {
          [
            "verbs": Value($0.verbs.sorted()), "apiGroups": ["*"],
            "resources": Value($0.resources.sorted()),
          ]
        }),
    ]
  }
}

extension RequestInfo {
  /// A request that is only asked about.
  init(attributes: Value) {
    self.init(path: "", verb: attributes["verb"].string ?? "")
    isResource = true
    group = attributes["group"].string ?? ""
    version = attributes["version"].string ?? ""
    namespace = attributes["namespace"].string ?? ""
    resource = attributes["resource"].string ?? ""
    subresource = attributes["subresource"].string ?? ""
    name = attributes["name"].string ?? ""
  }

  init(path: String, verb: String) {
    self.path = path
    self.verb = verb
  }
}
