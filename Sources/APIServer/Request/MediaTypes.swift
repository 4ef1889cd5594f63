import HTTPServer
import KubeAPI

/// How an answer is to be written: chosen from the request's `Accept`.
///
/// Clients list what they take in order of preference: kubectl asks for a Table first and plain JSON
/// last, typed clients for protobuf first and JSON last. What we can't write is skipped; `Accept` that
/// leaves nothing is answered 406, as Kubernetes does.
struct AnswerFormat: Sendable, Equatable {
  enum Form: Sendable, Equatable {
    case object
    /// Rows of cells; the version of `meta.k8s.io` that was asked for.
    case table(version: String)
    /// Metadata alone.
    case partialMetadata
  }

  enum Encoding: Sendable, Equatable {
    case json
    case yaml
  }

  var form = Form.object
  var encoding = Encoding.json

  static let accepted = [
    "application/json", "application/yaml", "application/vnd.kubernetes.protobuf",
  ]

  /// - Parameter allowsForms: false for what has one form only: Status, Scale, discovery.
  static func negotiate(
    _ fields: HTTPFields, allowsForms: Bool = true
  ) throws(StatusError) -> AnswerFormat {
    let text = fields.values(of: "Accept").joined(separator: ",")
    if text.allSatisfy({ $0 == " " }) { return AnswerFormat() }
    for range in MediaRange.parse(text) {
      let encoding: Encoding
      switch range.type {
      case "application/json", "application/*", "*/*": encoding = .json
      case "application/yaml": encoding = .yaml
      default: continue
      }
      switch range.parameters["as"] {
      case nil:
        return AnswerFormat(encoding: encoding)
      case "Table" where allowsForms && range.parameters["g"] == "meta.k8s.io":
        let version = range.parameters["v"] ?? "v1"
        if version == "v1" || version == "v1beta1" {
          return AnswerFormat(form: .table(version: version), encoding: encoding)
        }
      case "PartialObjectMetadata" where allowsForms && range.parameters["g"] == "meta.k8s.io",
        "PartialObjectMetadataList" where allowsForms && range.parameters["g"] == "meta.k8s.io":
        if range.parameters["v"] ?? "v1" == "v1" {
          return AnswerFormat(form: .partialMetadata, encoding: encoding)
        }
      default: continue
      }
    }
    throw .notAcceptable(accepted)
  }

  var contentType: String { encoding == .json ? "application/json" : "application/yaml" }
}

/// One element of an `Accept` or `Content-Type` field.
struct MediaRange: Sendable, Equatable {
  /// In lower case, without parameters.
  var type: String
  var parameters: [String: String] = [:]
  var quality = 1.0

  /// The elements in order of preference: by quality, then as they came.
  static func parse(_ text: String) -> [MediaRange] {
    var ranges: [MediaRange] = []
    for element in text.split(separator: ",") {
      let parts = element.split(separator: ";").map { $0.trimmed }
      guard let type = parts.first, !type.isEmpty else { continue }
      var range = MediaRange(type: type.lowercased())
      for part in parts.dropFirst() {
        let halves = part.split(separator: "=", maxSplits: 1)
        guard halves.count == 2 else { continue }
        let value = halves[1].trimmed
        if halves[0].lowercased() == "q" {
          range.quality = Double(value) ?? 1
        } else {
          range.parameters[halves[0].lowercased()] = value
        }
      }
      if range.quality > 0 { ranges.append(range) }
    }
    return ranges.enumerated().sorted {
      ($1.element.quality, $0.offset) < ($0.element.quality, $1.offset)
    }.map(\.element)
  }
}

extension Substring {
  fileprivate var trimmed: String {
    var rest = self
    while rest.first == " " { rest.removeFirst() }
    while rest.last == " " { rest.removeLast() }
    return String(rest)
  }
}
