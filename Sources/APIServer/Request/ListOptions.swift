import Foundation
import HTTPServer
import KubeAPI
import Primitives

/// What a list or a watch asks for, read from the query and checked as Kubernetes checks it.
struct ListOptions: Sendable {
  enum Match: String, Sendable {
    case exact = "Exact"
    case notOlderThan = "NotOlderThan"
  }

  var labels = LabelSelector.everything
  var fields = FieldSelector.everything
  /// nil: all.
  var limit: Int?
  var continuation: Continuation?
  /// nil: not given. Zero: whatever is at hand.
  var revision: Revision?
  var match: Match?
  var timeout: Duration?
  var allowsBookmarks = false
  var sendsInitialEvents: Bool?

  /// Where the next page of a list begins.
  struct Continuation: Sendable, Equatable {
    /// The revision that the list is read at; nil: the newest, after the first pages' revision was
    /// compacted away.
    var revision: Revision?
    /// The key that the last page ended with, without the resource's prefix.
    var last: String

    /// Opaque to clients: base64 of a little JSON, as Kubernetes' own.
    var token: String {
      let json: Value = [
        "v": "meta.k8s.io/v1", "rv": .integer(revision?.rawValue ?? -1), "start": .string(last),
      ]
      return Data(json.json).base64EncodedString()
        .replacingOccurrences(of: "+", with: "-").replacingOccurrences(of: "/", with: "_")
        .replacingOccurrences(of: "=", with: "")
    }

    init(revision: Revision?, last: String) {
      self.revision = revision
      self.last = last
    }

    init?(token: String) {
      var text = token.replacingOccurrences(of: "-", with: "+")
        .replacingOccurrences(of: "_", with: "/")
      while text.count % 4 != 0 { text += "=" }
      guard let data = Data(base64Encoded: text), let value = try? Value(json: Array(data)),
        value["v"].string == "meta.k8s.io/v1", let number = value["rv"].integer,
        let last = value["start"].string, number > 0 || number == -1
      else { return nil }
      self.init(revision: number > 0 ? Revision(number) : nil, last: last)
    }
  }

  init() {}

  init(
    _ target: RequestTarget, resource: ResourceDefinition, isWatch: Bool
  ) throws(StatusError) {
    do throws(SelectorError) {
      if let text = target.value(of: "labelSelector") { labels = try LabelSelector(text) }
      if let text = target.value(of: "fieldSelector") {
        fields = try FieldSelector(text)
        try fields.check(for: resource)
      }
    } catch {
      throw .badRequest(error.message)
    }
    if let number = try Self.number(target, "limit"), number > 0 { limit = Int(clamping: number) }
    if let text = target.value(of: "continue"), !text.isEmpty {
      guard let parsed = Continuation(token: text) else {
        throw .badRequest("continue key is not valid")
      }
      continuation = parsed
    }
    if let text = target.value(of: "resourceVersion"), !text.isEmpty {
      guard let number = Int64(text), number >= 0 else {
        throw .badRequest("Invalid value: \(quoted(text)): invalid resource version")
      }
      revision = Revision(number)
    }
    if let number = try Self.number(target, "timeoutSeconds"), number > 0 {
      // Bounded, so that adding it to a clock can't overflow.
      timeout = .seconds(min(number, 86_400 * 365))
    }
    allowsBookmarks = target.isTrue("allowWatchBookmarks")
    if target.value(of: "sendInitialEvents") != nil {
      sendsInitialEvents = target.isTrue("sendInitialEvents")
    }
    try check(matchText: target.value(of: "resourceVersionMatch") ?? "", isWatch: isWatch)
  }

  private static func number(
    _ target: RequestTarget, _ name: String
  ) throws(StatusError) -> Int64? {
    guard let text = target.value(of: name), !text.isEmpty else { return nil }
    guard let number = Int64(text) else {
      throw .badRequest("strconv.ParseInt: parsing \(quoted(text)): invalid syntax")
    }
    return number
  }

  private mutating func check(matchText: String, isWatch: Bool) throws(StatusError) {
    var errors: [FieldError] = []
    let path = FieldPath("resourceVersionMatch")
    match = Match(rawValue: matchText)
    if !matchText.isEmpty {
      if isWatch && sendsInitialEvents == nil {
        errors.append(
          .forbidden(
            path, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
          ))
      } else if !isWatch && revision == nil {
        errors.append(
          .forbidden(path, "resourceVersionMatch is forbidden unless resourceVersion is provided"))
      }
      if continuation != nil {
        errors.append(
          .forbidden(path, "resourceVersionMatch is forbidden when continue is provided"))
      }
      if match == nil {
        errors.append(
          .notSupported(
            path, .string(matchText), [Match.exact.rawValue, Match.notOlderThan.rawValue]))
      }
      if match == .exact && revision == .zero {
        errors.append(
          .forbidden(path, "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\""))
      }
    }
    if sendsInitialEvents != nil {
      let path = FieldPath("sendInitialEvents")
      if !isWatch {
        errors.append(.forbidden(path, "sendInitialEvents is forbidden for list"))
      } else if match != .notOlderThan {
        errors.append(
          .forbidden(
            path, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
      }
    }
    if continuation != nil, let revision, revision > .zero {
      throw .badRequest("specifying resource version is not allowed when using continue")
    }
    if !errors.isEmpty { throw .invalidOptions(errors, kind: "ListOptions") }
  }

  /// Whether an object is selected.
  func matches(_ object: StoredObject) -> Bool {
    labels.matches(object.labels)
      && fields.requirements.allSatisfy { requirement in
        let value =
          switch requirement.field {
          case "metadata.name": object.name
          case "metadata.namespace": object.namespace
          default: object.fields[requirement.field] ?? ""
          }
        return (value == requirement.value) == requirement.isEqual
      }
  }

  /// Where a watch with these options waits for events.
  func bucket(namespace: String, isNamespaced: Bool) -> WatchCache.Bucket {
    let namespace = namespace.isEmpty ? fields.exactValue(of: "metadata.namespace") : namespace
    if let name = fields.exactValue(of: "metadata.name"), !isNamespaced || namespace != nil {
      return .name(namespace: isNamespaced ? namespace ?? "" : "", name: name)
    }
    if let node = fields.exactValue(of: "spec.nodeName"), !node.isEmpty { return .node(node) }
    if let namespace { return .namespace(namespace) }
    return .everything
  }
}
