import KubeAPI
import Testing

/// Kubernetes' protobuf bodies. Whole objects from real clients are in APIServerTests' transcripts.
@Suite("Protobuf bodies")
struct ProtobufTests {
  /// A field with bytes.
  private static func field(_ number: UInt8, _ bytes: [UInt8]) -> [UInt8] {
    [number << 3 | 2, UInt8(bytes.count)] + bytes
  }
  private static func field(_ number: UInt8, _ text: String) -> [UInt8] {
    field(number, Array(text.utf8))
  }
  private static func body(_ apiVersion: String, _ kind: String, _ object: [UInt8]) -> [UInt8] {
    [0x6B, 0x38, 0x73, 0] + field(1, field(1, apiVersion) + field(2, kind)) + field(2, object)
  }

  /// Metadata with a name, empty fields that Go writes all the same, and no creation time.
  private static let metadata = field(
    1, field(1, "c") + field(2, "") + field(8, []) + field(11, field(1, "app") + field(2, "web")))

  private static let configMap = body(
    "v1", "ConfigMap",
    metadata + field(2, field(1, "key") + field(2, "value")) + field(2, field(1, "empty"))
      + field(3, field(1, "raw") + field(2, [0, 255])))

  @Test("A ConfigMap: text, bytes and maps, and nothing where Go has an empty field")
  func configMap() throws {
    #expect(
      try ProtobufObject.decode(Self.configMap) == [
        "kind": "ConfigMap", "apiVersion": "v1",
        "metadata": ["name": "c", "labels": ["app": "web"]],
        "data": ["key": "value", "empty": ""], "binaryData": ["raw": "AP8="],
      ])
  }

  @Test("A pod: embedded messages, numbers or text, zeros that are meant and zeros that are not")
  func pod() throws {
    // Volume {1: name, 2: VolumeSource {2: EmptyDir}}; grace 0 is a pointer's, hostNetwork false isn't.
    let volume = Self.field(1, Self.field(1, "v") + Self.field(2, Self.field(2, [])))
    let probe = Self.field(
      10,
      Self.field(
        1,
        Self.field(2, Self.field(1, "/") + Self.field(2, [0x08, 1, 0x10, 0] + Self.field(3, "web"))))
    )
    let container = Self.field(2, Self.field(1, "main") + probe + [0x80, 0x01, 0])
    let spec = Self.field(2, volume + container + [0x20, 0] + [0x58, 0])
    let pod = try ProtobufObject.decode(Self.body("v1", "Pod", Self.metadata + spec))
    #expect(
      pod["spec"] == [
        "volumes": [["name": "v", "emptyDir": [:]]],
        "containers": [
          ["name": "main", "livenessProbe": ["httpGet": ["path": "/", "port": "web"]]]
        ],
        "terminationGracePeriodSeconds": 0,
      ])
  }

  @Test("What is cut off or garbled is an error or an object, never a trap")
  func garbled() {
    for length in 0..<Self.configMap.count {
      _ = try? ProtobufObject.decode(Array(Self.configMap.prefix(length)))
    }
    for position in Self.configMap.indices {
      for value in [0, 0x7F, 0x80, 0xFF] as [UInt8] {
        var bytes = Self.configMap
        bytes[position] = value
        _ = try? ProtobufObject.decode(bytes)
      }
    }
  }

  @Test("A body says what is wrong with it")
  func errors() {
    func message(_ bytes: [UInt8]) -> String {
      do { return "\(try ProtobufObject.decode(bytes))" } catch { return error.message }
    }
    #expect(message(Array("{}".utf8)).hasPrefix("provided data does not appear to be a protobuf"))
    #expect(
      message(Self.body("v7", "Thing", [])) == #"no kind "Thing" is registered for version "v7""#)
    #expect(message(Self.body("v1", "Pod", [0x0A, 0x7F])).hasPrefix("unable to decode"))
    #expect(
      message(Self.body("v1", "Pod", Self.field(1, Self.field(1, [0xFF, 0xFE]))))
        == "proto: a string is not valid UTF-8")
    // Messages within messages, without end: a pod's schema has none, JSON schemas have.
    #expect(message([0x6B, 0x38, 0x73, 0]) == "the object lacks apiVersion or kind")
  }
}
