import HTTPServer
import KubeAPI
import Synchronization

/// What the server tells about itself: version, discovery, OpenAPI.
///
/// Documents are made when first asked for and kept as bytes with the hash of their content, which
/// clients use as ETag and as part of the address.
final class APIDocuments: Sendable {
  /// The version of Kubernetes' API that is served.
  static let kubernetesVersion = "v1.32.0"

  private struct Document: Sendable {
    var bytes: [UInt8]
    var hash: String

    init(_ bytes: [UInt8]) {
      self.bytes = bytes
      hash = ContentHash.hex(bytes)
    }
  }

  private let scheme: @Sendable () -> Scheme
  private let serverAddress: String
  private let documents = Mutex<[String: Document]>([:])

  /// - Parameter serverAddress: host and port, told by legacy discovery.
  init(scheme: @escaping @Sendable () -> Scheme, serverAddress: String) {
    self.scheme = scheme
    self.serverAddress = serverAddress
  }

  var version: HTTPResponse {
    .json([
      "major": "1", "minor": "32", "gitVersion": Value(Self.kubernetesVersion),
      "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
      "goVersion": "", "compiler": "swiftc", "platform": "linux/amd64",
    ])
  }

  /// - Returns: nil for paths that none of the documents has.
  func answer(_ request: HTTPRequest) throws(StatusError) -> HTTPResponse? {
    let segments = request.target.segments
    let scheme = scheme()
    let discovery = Discovery(scheme)
    switch segments.first {
    case nil: return .json(["paths": Value(paths(scheme))])
    case "api" where segments.count == 1:
      return discoveryRoot(request, discovery, isCore: true)
    case "apis" where segments.count == 1:
      return discoveryRoot(request, discovery, isCore: false)
    case "api" where segments.count == 2:
      return discovery.resourceList(GroupVersion(group: "", version: segments[1])).map { .json($0) }
    case "apis" where segments.count == 2:
      return discovery.group(segments[1]).map { .json($0) }
    case "apis" where segments.count == 3:
      return discovery.resourceList(GroupVersion(group: segments[1], version: segments[2]))
        .map { .json($0) }
    case "openapi" where segments.count >= 2 && segments[1] == "v3":
      return openAPI(request, Array(segments.dropFirst(2)), scheme)
    case "openapi" where segments.count == 2 && segments[1] == "v2":
      return openAPIVersion2(request, scheme)
    default: return nil
    }
  }

  private func paths(_ scheme: Scheme) -> [String] {
    let groupVersions = scheme.groupVersions.map { "/" + OpenAPIDocument.name(of: $0) }
    return
      (["/api", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
      + groupVersions).sorted()
  }

  // MARK: Discovery

  /// The aggregated form where the client takes it: it says so by a parameter of its media type, and
  /// the answer's media type says so in turn.
  private func discoveryRoot(
    _ request: HTTPRequest, _ discovery: Discovery, isCore: Bool
  ) -> HTTPResponse {
    let accept = request.fields.values(of: "Accept").joined(separator: ",")
    for range in MediaRange.parse(accept)
    where range.type == "application/json" && range.parameters["g"] == "apidiscovery.k8s.io"
      && range.parameters["as"] == "APIGroupDiscoveryList"
    {
      guard let version = range.parameters["v"], version == "v2" || version == "v2beta1" else {
        continue
      }
      let document = document("discovery/\(isCore)/\(version)") {
        discovery.aggregated(isCore: isCore, version: version)
      }
      return answer(
        request, document,
        type:
          "application/json;g=apidiscovery.k8s.io;v=\(version);as=APIGroupDiscoveryList",
        cache: "public")
    }
    return .json(
      isCore ? discovery.coreVersions(serverAddress: serverAddress) : discovery.groupList)
  }

  // MARK: OpenAPI

  private func openAPI(
    _ request: HTTPRequest, _ rest: [String], _ scheme: Scheme
  ) -> HTTPResponse? {
    let openAPI = OpenAPIDocument(scheme, patchKinds: Patch.kinds)
    func document(_ groupVersion: GroupVersion) -> Document? {
      guard scheme.groupVersions.contains(groupVersion) else { return nil }
      return self.document("openapi/v3/\(groupVersion)") {
        openAPI.document(groupVersion, version: Self.kubernetesVersion) ?? .null
      }
    }
    if rest.isEmpty {
      let index = self.document("openapi/v3") {
        openAPI.index { document($0)?.hash ?? "" }
      }
      return answer(request, index, type: "application/json", cache: "no-cache, private")
    }
    let groupVersion: GroupVersion
    switch (rest.first, rest.count) {
    case ("api", 2): groupVersion = GroupVersion(group: "", version: rest[1])
    case ("apis", 3): groupVersion = GroupVersion(group: rest[1], version: rest[2])
    default: return nil
    }
    guard let found = document(groupVersion) else { return nil }
    if let asked = request.target.value(of: "hash"), asked != found.hash {
      // An address of older content: there is newer.
      return HTTPResponse(
        status: 301, fields: ["Location": "\(request.target.path)?hash=\(found.hash)"])
    }
    let isAddressedByHash = request.target.value(of: "hash") != nil
    return answer(
      request, found, type: "application/json",
      cache: isAddressedByHash ? "public, immutable" : "no-cache, private")
  }

  /// The document of clients before 1.24, as JSON or as the protobuf that they ask for.
  private func openAPIVersion2(_ request: HTTPRequest, _ scheme: Scheme) -> HTTPResponse {
    let accept = request.fields.values(of: "Accept").joined(separator: ",")
    let wantsProtobuf = MediaRange.parse(accept).contains {
      $0.type.hasPrefix("application/com.github.proto-openapi.spec.v2")
    }
    func make() -> Value {
      OpenAPIVersion2(scheme, patchKinds: Patch.kinds).document(version: Self.kubernetesVersion)
    }
    let document =
      wantsProtobuf
      ? self.document("openapi/v2/protobuf", bytes: { OpenAPIVersion2.protobuf(make()) })
      : self.document("openapi/v2") { make() }
    return answer(
      request, document, type: wantsProtobuf ? "application/octet-stream" : "application/json",
      cache: "no-cache, private")
  }

  // MARK: Keeping

  private func document(_ name: String, make: () -> Value) -> Document {
    document(name, bytes: { make().json })
  }

  private func document(_ name: String, bytes make: () -> [UInt8]) -> Document {
    if let document = documents.withLock({ $0[name] }) { return document }
    let document = Document(make())
    documents.withLock { $0[name] = document }
    return document
  }

  private func answer(
    _ request: HTTPRequest, _ document: Document, type: String, cache: String
  ) -> HTTPResponse {
    let tag = "\"\(document.hash)\""
    let fields: HTTPFields = [
      "Content-Type": type, "ETag": tag, "Cache-Control": cache, "Vary": "Accept",
    ]
    let isKnown = request.fields.values(of: "If-None-Match").contains { $0.contains(tag) }
    return isKnown
      ? HTTPResponse(status: 304, fields: fields)
      : HTTPResponse(status: 200, fields: fields, body: .bytes(document.bytes))
  }
}
