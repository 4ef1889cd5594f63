import KubeAPI
import Testing

@Suite struct DocumentTests {
  @Test func schemasAreCompleteAtTheirReferences() throws {
    let catalog = SchemaCatalog.kubernetes
    #expect(catalog.types.count > 300)
    let pod = try #require(
      catalog.schema(for: GroupVersionKind(group: "", version: "v1", kind: "Pod")))
    let spec = try #require(pod.field("spec"))
    let containers = try #require(pod.nested(spec.type)?.field("containers"))
    #expect(containers.mergeKey == "name")
    #expect(containers.mergesList && containers.isRequired && containers.listType == .map)
    let ports = try #require(pod.nested(spec.type)?.nested(containers.type)?.field("ports"))
    #expect(ports.mergeKey == "containerPort")
    #expect(ports.mapKeys == ["containerPort", "protocol"])
  }

  /// A client follows every reference; all of them must lead somewhere.
  @Test func openAPIDocumentsAreClosed() throws {
    let documents = OpenAPIDocument(.builtIn)
    for groupVersion in Scheme.builtIn.groupVersions {
      let document = try #require(documents.document(groupVersion))
      let schemas = document["components"]["schemas"]
      var references: [String] = []
      collectReferences(document, into: &references)
      for reference in Set(references) {
        let name = String(reference.dropFirst("#/components/schemas/".count))
        #expect(schemas.has(name), "\(groupVersion): \(name)")
      }
    }
    let index = documents.index { _ in "H" }
    #expect(
      index["paths"]["apis/apps/v1"]["serverRelativeURL"] == "/openapi/v3/apis/apps/v1?hash=H")
    #expect(index["paths"]["api/v1"]["serverRelativeURL"] == "/openapi/v3/api/v1?hash=H")
  }

  /// What kubectl's `apply` looks for before it trusts a server.
  @Test func patchOperationsSayWhatTheyTake() throws {
    let document = try #require(
      OpenAPIDocument(.builtIn).document(GroupVersion(group: "apps", version: "v1")))
    let path = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
    let patch = document["paths"][path]["patch"]
    #expect(patch["requestBody"]["content"].has("application/strategic-merge-patch+json"))
    #expect(
      patch["x-kubernetes-group-version-kind"]
        == ["group": "apps", "kind": "Deployment", "version": "v1"])
    let names = patch["parameters"].elements.compactMap { $0["name"].string }
    #expect(Set(names).isSuperset(of: ["dryRun", "fieldManager", "fieldValidation"]))
    let spec = document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]
    #expect(spec["properties"]["containers"]["x-kubernetes-patch-merge-key"] == "name")
    #expect(spec["properties"]["containers"]["x-kubernetes-patch-strategy"] == "merge")
    #expect(spec["required"] == ["containers"])
    let deployment = document["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"]
    #expect(
      deployment["x-kubernetes-group-version-kind"][0]
        == ["group": "apps", "kind": "Deployment", "version": "v1"])
  }

  @Test func discoveryListsKindsInBothForms() throws {
    let discovery = Discovery(.builtIn)
    let core = discovery.aggregated(isCore: true)
    let pods = try #require(
      core["items"][0]["versions"][0]["resources"].elements.first { $0["resource"] == "pods" })
    #expect(pods["shortNames"] == ["po"])
    #expect(pods["categories"] == ["all"])
    #expect(pods["scope"] == "Namespaced")
    #expect(pods["responseKind"] == ["group": "", "version": "v1", "kind": "Pod"])
    #expect(pods["subresources"].elements.contains { $0["subresource"] == "log" })
    let groups = discovery.aggregated(isCore: false)["items"].elements
      .compactMap { $0["metadata"]["name"].string }
    #expect(groups.contains("apps") && groups.contains("coordination.k8s.io"))
    let legacy = try #require(
      discovery.resourceList(GroupVersion(group: "apps", version: "v1")))
    let scale = try #require(
      legacy["resources"].elements.first { $0["name"] == "deployments/scale" })
    #expect(scale["group"] == "autoscaling" && scale["kind"] == "Scale")
    #expect(discovery.groupList["groups"].elements.contains { $0["name"] == "apps" })
    #expect(discovery.group("apps")?["preferredVersion"]["groupVersion"] == "apps/v1")
    #expect(discovery.group("nothing") == nil)
  }

  @Test func storageKeysAreKubernetesOwn() throws {
    let core = GroupVersion(group: "", version: "v1")
    for (plural, key) in [
      ("pods", "/registry/pods/ns/x"), ("nodes", "/registry/minions/x"),
      ("services", "/registry/services/specs/ns/x"),
      ("endpoints", "/registry/services/endpoints/ns/x"), ("namespaces", "/registry/namespaces/x"),
    ] {
      let resource = try #require(Scheme.builtIn.resource(core, plural))
      #expect(resource.storageKey(namespace: "ns", name: "x") == key)
    }
  }

  @Test func eventsOfBothGroupsAreOneThing() throws {
    let events = try #require(
      Scheme.builtIn.resource(GroupVersion(group: "events.k8s.io", version: "v1"), "events"))
    let served: Value = [
      "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": ["name": "e"],
      "note": "hello", "regarding": ["kind": "Pod"], "reportingController": "me",
    ]
    let stored = events.storage.stored(served)
    #expect(stored["apiVersion"] == "v1")
    #expect(stored["message"] == "hello" && stored["involvedObject"]["kind"] == "Pod")
    #expect(events.storage.served(stored) == served)
  }

  @Test func scale() throws {
    var deployment: Value = [
      "metadata": ["name": "d", "namespace": "n", "uid": "u", "resourceVersion": "7"],
      "spec": ["replicas": 2, "selector": ["matchLabels": ["a": "b"]]], "status": ["replicas": 1],
    ]
    var scale = Scale.of(deployment)
    #expect(scale["spec"]["replicas"] == 2)
    #expect(scale["status"] == ["replicas": 1, "selector": "a=b"])
    scale["spec"]["replicas"] = 5
    try Scale.apply(scale, to: &deployment)
    #expect(deployment["spec"]["replicas"] == 5)
    scale["spec"]["replicas"] = -1
    #expect(throws: StatusError.self) { try Scale.apply(scale, to: &deployment) }
  }

  @Test func statusErrorsSurviveTheWire() throws {
    let error = StatusError.notFound(
      GroupResource(group: "apps", resource: "deployments"), name: "x")
    #expect(error.message == "deployments.apps \"x\" not found")
    #expect(StatusError(status: error.value, code: 500) == error)
    let conflict = StatusError.conflict(GroupResource(group: "", resource: "pods"), name: "x")
    #expect(
      conflict.message
        == "Operation cannot be fulfilled on pods \"x\": the object has been modified; please "
        + "apply your changes to the latest version and try again")
  }

  private func collectReferences(_ value: Value, into references: inout [String]) {
    for member in value.members {
      if member.key == "$ref", let text = member.value.string { references.append(text) }
      collectReferences(member.value, into: &references)
    }
    for element in value.elements { collectReferences(element, into: &references) }
  }
}
