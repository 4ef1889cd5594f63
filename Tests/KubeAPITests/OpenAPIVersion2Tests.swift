import KubeAPI
import Testing

@Suite("OpenAPI v2")
struct OpenAPIVersion2Tests {
  private static let document = OpenAPIVersion2(
    .builtIn, patchKinds: [.json, .merge, .strategic, .apply]
  ).document(version: "v1.32.0")

  private static let pod: Value = document["definitions"]["io.k8s.api.core.v1.Pod"]

  @Test("Types refer to one another by v2's references, and every reference leads somewhere")
  func references() {
    var dangling: Set<String> = []
    func walk(_ value: Value) {
      for member in value.members {
        if member.key == "$ref", let text = member.value.string {
          let name = text.dropFirst("#/definitions/".count)
          if !text.hasPrefix("#/definitions/") || !Self.document["definitions"].has(String(name)) {
            dangling.insert(text)
          }
        }
        walk(member.value)
      }
      for element in value.elements { walk(element) }
    }
    walk(Self.document)
    #expect(dangling.isEmpty)
    #expect(
      Self.pod["properties"]["spec"]["$ref"] == "#/definitions/io.k8s.api.core.v1.PodSpec")
    #expect(Self.pod["x-kubernetes-group-version-kind"][0]["kind"] == "Pod")
  }

  @Test("What v2 can't say is said as Kubernetes says it")
  func scalars() {
    let definitions = Self.document["definitions"]
    #expect(
      definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"]["type"] == "string")
    let either = definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]
    #expect(either["type"] == "string" && either["format"] == "int-or-string")
    let containers = definitions["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    #expect(containers["type"] == "array" && containers["x-kubernetes-patch-merge-key"] == "name")
    #expect(containers["items"]["$ref"] == "#/definitions/io.k8s.api.core.v1.Container")
  }

  @Test("A patch lists its media types and that it can be tried dry")
  func operations() {
    let patch = Self.document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"][
      "patch"]
    #expect(patch["consumes"].strings.contains("application/strategic-merge-patch+json"))
    let dryRun = patch["parameters"].elements.first { $0["name"] == "dryRun" }
    #expect(dryRun?["in"] == "query" && dryRun?["type"] == "string")
    #expect(patch["parameters"].elements.contains { $0["in"] == "body" && $0["schema"].has("$ref") })
  }

  @Test("The protobuf form holds the same names, types and extensions")
  func protobuf() throws {
    let document = try #require(Message(OpenAPIVersion2.protobuf(Self.document)))
    #expect(document.text(1) == "2.0")
    #expect(document.message(2)?.text(1) == "Kubernetes")
    let definitions = try #require(document.message(9)).messages(1)
    #expect(definitions.map { $0.text(1) } == Self.document["definitions"].members.map(\.key))
    let paths = try #require(document.message(8)).messages(2)
    #expect(paths.map { $0.text(1) } == Self.document["paths"].members.map(\.key))

    let pod = try #require(
      definitions.first { $0.text(1) == "io.k8s.api.core.v1.Pod" }?.message(2))
    #expect(pod.message(22)?.text(1) == "object")
    let properties = try #require(pod.message(25)).messages(1)
    #expect(properties.map { $0.text(1) } == Self.pod["properties"].members.map(\.key))
    let spec = properties.first { $0.text(1) == "spec" }?.message(2)
    #expect(spec?.text(1) == "#/definitions/io.k8s.api.core.v1.PodSpec")
    let kinds = try #require(
      pod.messages(31).first { $0.text(1) == "x-kubernetes-group-version-kind" })
    let yaml = try #require(kinds.message(2)?.text(2))
    #expect(try Value(json: yaml) == Self.pod["x-kubernetes-group-version-kind"])

    // A query parameter lies in ParametersItem 1, Parameter 2, NonBodyParameter 3.
    let item = try #require(
      paths.first { $0.text(1) == "/apis/apps/v1/namespaces/{namespace}/deployments/{name}" })
    let patch = try #require(item.message(2)?.message(8))
    let names = patch.messages(8).compactMap { $0.message(1)?.message(2)?.message(3)?.text(4) }
    #expect(names.contains("dryRun") && names.contains("fieldValidation"))
  }
}

/// A protobuf message whose fields all are length-delimited, but for numbers, which are skipped.
private struct Message {
  private var fields: [(number: UInt64, content: ArraySlice<UInt8>)] = []

  init?(_ bytes: some Sequence<UInt8>) {
    var rest = ArraySlice(Array(bytes))
    func varint() -> UInt64? {
      var value: UInt64 = 0
      var shift = 0
      while let byte = rest.popFirst() {
        value |= UInt64(byte & 0x7F) << shift
        if byte < 0x80 { return value }
        shift += 7
      }
      return nil
    }
    while !rest.isEmpty {
      guard let tag = varint() else { return nil }
      guard let length = varint() else { return nil }
      if tag & 7 == 0 { continue }
      guard tag & 7 == 2, Int(length) <= rest.count else { return nil }
      fields.append((tag >> 3, rest.prefix(Int(length))))
      rest = rest.dropFirst(Int(length))
    }
  }

  func messages(_ number: UInt64) -> [Message] {
    fields.filter { $0.number == number }.compactMap { Message($0.content) }
  }
  func message(_ number: UInt64) -> Message? { messages(number).first }
  func text(_ number: UInt64) -> String? {
    fields.first { $0.number == number }.map { String(decoding: $0.content, as: UTF8.self) }
  }
}
