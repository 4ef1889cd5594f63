import KubeAPI
import Testing

@Suite struct SelectorTests {
  private static let labels: Value = ["app": "web", "tier": "front", "n": "5", "empty": ""]

  @Test(
    arguments: [
      ("", true, ""), ("app=web", true, "app=web"), ("app==web", true, "app=web"),
      ("app = web , tier", true, "app=web,tier"), ("app!=web", false, "app!=web"),
      ("gone!=web", true, "gone!=web"), ("app in (db, web)", true, "app in (db,web)"),
      ("app notin (web)", false, "app notin (web)"), ("gone notin (x)", true, "gone notin (x)"),
      ("!gone", true, "!gone"), ("!app", false, "!app"), ("n>4", true, "n>4"),
      ("n<5", false, "n<5"),
      ("empty=", true, "empty="), ("app,", nil, "found '', expected: identifier after ','"),
      ("app=web,tier=back", false, "app=web,tier=back"), ("in in (in)", false, "in in (in)"),
      ("example.com/a=b", false, "example.com/a=b"),
      ("=x", nil, "found '=', expected: !, identifier, or 'end of string'"),
      ("a=b=c", nil, "found '=', expected: ',' or 'end of string'"),
      ("a in b", nil, "unable to parse requirement: found 'b', expected: '('"),
      (
        "a ~ b", nil,
        "unable to parse requirement: found '~', expected: in, notin, =, ==, !=, gt, lt"
      ),
    ] as [(String, Bool?, String)])
  func labelSelectors(_ text: String, _ matches: Bool?, _ shown: String) throws {
    do {
      let selector = try LabelSelector(text)
      #expect(selector.matches(SelectorTests.labels) == matches)
      #expect(selector.description == shown)
      #expect(try LabelSelector(selector.description) == selector)
    } catch let error {
      #expect(matches == nil)
      #expect(error.message == shown)
    }
  }

  @Test func selectorObjects() throws {
    #expect(try !LabelSelector(object: .null).matches(SelectorTests.labels))
    #expect(try LabelSelector(object: [:]).matches(SelectorTests.labels))
    let selector = try LabelSelector(object: [
      "matchLabels": ["app": "web"],
      "matchExpressions": [
        ["key": "tier", "operator": "In", "values": ["front", "back"]],
        ["key": "gone", "operator": "DoesNotExist"],
      ],
    ])
    #expect(selector.matches(SelectorTests.labels))
    #expect(selector.description == "app=web,!gone,tier in (back,front)")
    #expect(throws: SelectorError(message: "\"Near\" is not a valid label selector operator")) {
      try LabelSelector(object: ["matchExpressions": [["key": "a", "operator": "Near"]]])
    }
  }

  @Test func fieldSelectors() throws {
    let pods = try #require(
      Scheme.builtIn.resource(GroupVersion(group: "", version: "v1"), "pods"))
    let pod: Value = [
      "metadata": ["name": "p", "namespace": "d"], "spec": ["nodeName": "n"],
      "status": ["phase": "Running"],
    ]
    for (text, expected) in [
      ("", true), ("metadata.name=p", true), ("metadata.name=p,status.phase!=Running", false),
      ("spec.nodeName==n,status.phase!=Succeeded,status.phase!=Failed", true),
      ("spec.hostNetwork=false", true), ("status.podIP=", true), ("metadata.namespace=d,", true),
    ] {
      let selector = try FieldSelector(text)
      try selector.check(for: pods)
      #expect(selector.matches(pod, of: pods) == expected)
    }
    #expect(try FieldSelector("metadata.name=p").exactValue(of: "metadata.name") == "p")
    #expect(throws: SelectorError(message: "field label not supported: spec.foo")) {
      try FieldSelector("spec.foo=1").check(for: pods)
    }
    let deployments = try #require(
      Scheme.builtIn.resource(GroupVersion(group: "apps", version: "v1"), "deployments"))
    #expect(
      throws: SelectorError(
        message: "\"spec.foo\" is not a known field selector: only \"metadata.name\", "
          + "\"metadata.namespace\""
      )
    ) { try FieldSelector("spec.foo=1").check(for: deployments) }
    #expect(throws: SelectorError(message: "invalid selector: 'abc'; can't understand 'abc'")) {
      try FieldSelector("abc")
    }
    let escaped = try FieldSelector(#"reason=a\,b\=c\\"#)
    #expect(escaped.exactValue(of: "reason") == #"a,b=c\"#)
    #expect(escaped.description == #"reason=a\,b\=c\\"#)
  }
}
