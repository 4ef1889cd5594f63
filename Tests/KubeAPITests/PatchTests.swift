import KubeAPI
import Primitives
import Testing

@Suite struct PatchTests {
  /// Many operations on a large list take time for the operations, not for copies of the list.
  @Test(.timeLimit(.minutes(1))) func largePatches() throws {
    let original: Value = ["a": ["list": .array((0..<100_000).map { Value($0) })]]
    let operation: Value = ["op": "replace", "path": "/a/list/77", "value": 1]
    let result = try JSONPatch.apply(
      .array(Array(repeating: operation, count: JSONPatch.Limits.operations)), to: original)
    #expect(result["a"]["list"][77] == 1)
    let most = Array(repeating: operation, count: JSONPatch.Limits.operations + 1)
    #expect(throws: PatchError.self) { try JSONPatch.apply(.array(most), to: original) }
  }

  /// Copying a document into itself would double it each time.
  @Test func copiesAreBounded() throws {
    let original: Value = ["a": ["x": "0123456789"]]
    let copy: Value = ["op": "copy", "from": "/a", "path": "/a/y"]
    #expect(throws: PatchError.self) {
      try JSONPatch.apply(.array(Array(repeating: copy, count: 1_000)), to: original)
    }
  }

  /// Strategic merge of large lists takes about linear time.
  @Test(.timeLimit(.minutes(1))) func largeMergeLists() throws {
    let schema = try #require(SchemaCatalog.kubernetes.schema(named: "core.v1.Pod"))
    let items = (0..<20_000).map { Value.object(["name": Value("c\($0)"), "image": "x"]) }
    let object: Value = ["spec": ["containers": .array(items)]]
    let patch: Value = [
      "spec": [
        "containers": .array(items.reversed()),
        "$setElementOrder/containers": .array(items.reversed()),
      ]
    ]
    let result = try StrategicMergePatch.apply(patch, to: object, schema: schema)
    #expect(throws: Never.self) {
      try #require(result["spec"]["containers"].elements.count == 20_000)
    }
  }

  /// Random patches on random objects: an answer or an error, and the same answer twice.
  @Test func fuzz() throws {
    let schema = try #require(SchemaCatalog.kubernetes.schema(named: "core.v1.Pod"))
    var random = RandomSource(seed: 11)
    for _ in 0..<3_000 {
      let object = randomPod(&random, isPatch: false)
      let patch = randomPod(&random, isPatch: true)
      let first = Result { try StrategicMergePatch.apply(patch, to: object, schema: schema) }
      let second = Result { try StrategicMergePatch.apply(patch, to: object, schema: schema) }
      switch (first, second) {
      case (.success(let a), .success(let b)): #expect(a == b)
      case (.failure, .failure): break
      default: Issue.record("not deterministic")
      }
      _ = try MergePatch.apply(patch, to: object)
    }
  }

  private func randomPod(_ random: inout RandomSource, isPatch: Bool) -> Value {
    var containers: [Value] = []
    for _ in 0..<random.below(4) {
      var container: Value = ["name": Value("c\(random.below(4))")]
      if random.oneIn(2) { container["image"] = Value("i\(random.below(3))") }
      if isPatch, random.oneIn(4) {
        container["$patch"] = random.oneIn(2) ? "delete" : "replace"
      }
      if isPatch, random.oneIn(8) { container.set("env", to: random.oneIn(2) ? nil : 5) }
      if random.oneIn(3) { container["env"] = [["name": Value("e\(random.below(3))")]] }
      containers.append(container)
    }
    var pod: Value = ["spec": ["containers": .array(containers)]]
    if isPatch, random.oneIn(3) {
      pod["spec"]["$setElementOrder/containers"] = .array(
        (0..<random.below(4)).map { _ in ["name": Value("c\(random.below(4))")] })
    }
    if random.oneIn(3) { pod["metadata"]["finalizers"] = [Value("f\(random.below(3))")] }
    if isPatch, random.oneIn(4) {
      pod["metadata"]["$deleteFromPrimitiveList/finalizers"] = [Value("f\(random.below(3))")]
    }
    return pod
  }
}
