import KubeAPI
import Testing

@Suite struct StoredObjectTests {
  @Test func resourceVersionIsSplicedIn() throws {
    let stored = StoredObject(
      [
        "kind": "Pod", "metadata": ["name": "web", "resourceVersion": "3"],
        "spec": ["metadata": ["x": 1]],
      ])
    #expect(
      String(decoding: stored.json, as: UTF8.self)
        == #"{"kind":"Pod","metadata":{"name":"web"},"spec":{"metadata":{"x":1}}}"#)
    #expect(
      String(decoding: stored.encoded(resourceVersion: 7), as: UTF8.self)
        == #"{"kind":"Pod","metadata":{"resourceVersion":"7","name":"web"},"#
        + #""spec":{"metadata":{"x":1}}}"#)
    #expect(StoredObject(json: stored.json) == stored)
    #expect(try stored.value(resourceVersion: 7)["metadata"]["resourceVersion"] == "7")
  }

  @Test func emptyMetadata() throws {
    let stored = StoredObject(["kind": "X"])
    #expect(
      String(decoding: stored.encoded(resourceVersion: 1), as: UTF8.self)
        == #"{"kind":"X","metadata":{"resourceVersion":"1"}}"#)
    #expect(StoredObject(json: stored.json) == stored)
  }

  @Test(arguments: [
    (#"{"a":"metadata","b":{"metadata":{}},"c":[{"metadata":{}}], "metadata" : {"n":1}}"#, true),
    (#"{"x\"metadata":{},"metadata":{}}"#, true),
    (#"{"metadata":[{}]}"#, false),
    (#"{"metadata":"{"}"#, false),
    (#"[{"metadata":{}}]"#, false),
    (#"{"a":"unclosed"#, false),
    ("k8s\0\n\u{c}", false),
    ("", false),
  ])
  func onlyTheOuterMetadataCounts(_ text: String, _ isFound: Bool) throws {
    let stored = StoredObject(json: Array(text.utf8))
    #expect((stored != nil) == isFound)
    if let stored {
      let value = try Value(json: stored.encoded(resourceVersion: 5))
      #expect(value["metadata"]["resourceVersion"] == "5")
    }
  }
}
