import KubeAPI
import Testing

@Suite("The layout of the store")
struct StorageLayoutTests {
  private let layout = Scheme.builtIn.storage

  @Test(
    "Keys are found by their first segments",
    arguments: [
      ("/registry/pods/default/web", "/registry/pods/"),
      ("/registry/services/specs/default/web", "/registry/services/specs/"),
      ("/registry/services/endpoints/default/web", "/registry/services/endpoints/"),
      ("/registry/minions/n1", "/registry/minions/"),
      ("/registry/pods/services/specs", "/registry/pods/"),
      ("/registry/ipaddresses/10.96.0.1", nil), ("/registry/services/web", nil),
      ("/registry/podsx/default/web", nil), ("/registry/", nil), ("/other/pods/web", nil), ("", nil),
    ] as [(String, String?)])
  func prefixes(key: String, prefix: String?) {
    #expect(layout.prefix(of: key) == prefix)
  }

  @Test("Every stored resource has its place, and both groups' Events share theirs")
  func places() {
    for resource in Scheme.builtIn.resources where resource.isStored {
      let key = resource.storageKey(namespace: "ns", name: "name")
      #expect(layout.prefix(of: key) == resource.storageKeyPrefix())
    }
    let event: Value = ["reason": "Started", "involvedObject": ["kind": "Pod"]]
    let fields = layout.fields(of: event, prefix: "/registry/events/")
    #expect(fields["involvedObject.kind"] == "Pod" && fields["regarding.kind"] == "Pod")
    #expect(fields["type"] == nil, "what is empty is left out")
  }
}
