import Foundation
import KubeAPI
import Logging
import Synchronization
import Testing

@testable import NodeAgent

/// An API of one pod: takes statuses, tells events, deletes.
final class ScriptedAPI: PodAPI {
  struct State {
    var pod: Value
    var events: [String] = []
    var messages: [String] = []
    var isDeleted = false
    var configMaps: [String: Value] = [:]
    var secrets: [String: Value] = [:]
    var services: [Value] = []
    var tokens = 0
    var changed: (@Sendable () -> Void)?
    var version = 1
  }
  let state: Mutex<State>

  init(_ pod: Value) { state = Mutex(State(pod: pod)) }

  func configMap(namespace: String, name: String) async throws -> Value? {
    state.withLock { $0.configMaps[name] }
  }
  func secret(namespace: String, name: String) async throws -> Value? {
    state.withLock { $0.secrets[name] }
  }
  func services() async -> [Value] { state.withLock { $0.services } }
  func token(
    audience: String?, seconds: Int64, for pod: PodManifest
  ) async throws -> (token: String, renewAt: Timestamp)? {
    state.withLock { state in
      state.tokens += 1
      // The first one is soon over.
      let life: Duration = state.tokens == 1 ? .seconds(1) : .seconds(3_600)
      return ("token \(state.tokens) for \(audience ?? "")", Timestamp.wallClock().adding(life))
    }
  }
  func follow(
    _ references: Set<ObjectReference>, for pod: PodManifest,
    changed: @escaping @Sendable () -> Void
  ) {
    state.withLock { $0.changed = references.isEmpty ? nil : changed }
  }
  func publish(_ status: Value, of pod: PodManifest) async throws -> Value? {
    state.withLock { state in
      if state.isDeleted { return nil }
      state.version += 1
      for member in status.members { state.pod["status"][member.key] = member.value }
      state.pod["metadata"]["resourceVersion"] = Value("\(state.version)")
      return state.pod
    }
  }
  func delete(_ pod: PodManifest) async throws { state.withLock { $0.isDeleted = true } }
  func announce(_ announcement: PodLifecycle.Announcement, about pod: PodManifest) {
    state.withLock {
      $0.events.append(announcement.reason)
      $0.messages.append(announcement.message)
    }
  }

  /// The object, changed as by another client.
  func change(_ edit: (inout Value) -> Void) -> Value {
    state.withLock { state in
      state.version += 1
      edit(&state.pod)
      state.pod["metadata"]["resourceVersion"] = Value("\(state.version)")
      return state.pod
    }
  }
  var pod: Value { state.withLock { $0.pod } }
  var messages: [String] { state.withLock { $0.messages } }
  var events: [String] { state.withLock { $0.events } }
}

@Suite(
  "A pod, from the API to its containers",
  .enabled(if: runtimeObstacle == nil, "needs root, crun and busybox"), .serialized)
struct PodWorkerTests {
  fileprivate func manifest(_ name: String, _ spec: Value) -> Value {
    [
      "apiVersion": "v1", "kind": "Pod",
      "metadata": [
        "name": Value(name), "namespace": "default", "uid": Value("uid-\(name)"),
        "resourceVersion": "1", "labels": ["app": "test"],
      ],
      "spec": spec, "status": ["phase": "Pending"],
    ]
  }

  fileprivate func run(
    _ api: ScriptedAPI, _ fixture: RuntimeFixture, _ body: (PodWorker) async throws -> Void
  ) async throws {
    let environment = PodWorker.Environment(
      runtime: fixture.runtime, api: api, paths: PodPaths(root: fixture.root + "/agent"),
      addresses: ["192.0.2.9"], nodeName: "node", resolverConfiguration: "nameserver 192.0.2.1\n",
      logger: Logger(label: "test"))
    let worker = PodWorker(api.pod, environment: environment)
    let task = Task { await worker.run() }
    let runtime = fixture.runtime
    let events = Task { for await _ in runtime.events { worker.poke() } }
    try await body(worker)
    task.cancel()
    events.cancel()
    worker.poke()
    await task.value
    try await fixture.end()
  }

  fileprivate func wait(
    _ what: String, seconds: Double = 20, _ condition: () throws -> Bool
  ) async throws {
    let deadline = Date().addingTimeInterval(seconds)
    while try !condition() {
      guard Date() < deadline else {
        Issue.record("never: \(what)")
        throw CancellationError()
      }
      try await Task.sleep(for: .milliseconds(10))
    }
  }

  @Test func `a pod runs, crashes, is restarted, is deleted, is gone`() async throws {
    let fixture = try RuntimeFixture()
    let api = ScriptedAPI(
      manifest(
        "whole",
        [
          "terminationGracePeriodSeconds": 1,
          "volumes": [
            ["name": "config", "configMap": ["name": "settings"]],
            ["name": "shared", "emptyDir": [:]],
            ["name": "memory", "emptyDir": ["medium": "Memory"]],
          ],
          "containers": [
            [
              "name": "main", "image": "busybox", "imagePullPolicy": "IfNotPresent",
              "command": [
                "sh", "-c",
                "cat /config/greeting; echo $WHO $(POD) $SECRET; until [ -e /shared/die ]; do sleep 0.05; done; rm /shared/die; exit 4",
              ],
              "env": [
                ["name": "WHO", "value": "me"],
                ["name": "POD", "valueFrom": ["fieldRef": ["fieldPath": "metadata.name"]]],
                ["name": "SECRET", "valueFrom": ["secretKeyRef": ["name": "s", "key": "k"]]],
              ],
              "volumeMounts": [
                ["name": "config", "mountPath": "/config"],
                ["name": "shared", "mountPath": "/shared"],
              ],
            ],
            [
              "name": "side", "image": "busybox", "imagePullPolicy": "IfNotPresent",
              "command": [
                "sh", "-c",
                "grep -c /memory /proc/mounts; touch /memory/x; trap 'exit 0' TERM; while :; do sleep 0.05; done",
              ],
              "volumeMounts": [
                ["name": "memory", "mountPath": "/memory"],
                ["name": "shared", "mountPath": "/shared"],
              ],
            ],
          ],
        ]))
    api.state.withLock { state in
      state.configMaps["settings"] = [
        "kind": "ConfigMap", "data": ["greeting": "hello from the API\n"],
      ]
      state.secrets["s"] = ["kind": "Secret", "data": ["k": "c2VzYW1l"]]
    }
    try await run(api, fixture) { worker in
      try await wait("running") { api.pod["status"]["phase"].string == "Running" }
      #expect(api.events.filter { $0 == "Started" }.count == 2)
      #expect(api.pod["status"]["qosClass"].string == "BestEffort")
      #expect(api.pod["status"]["hostIP"].string == "192.0.2.9")
      let log = fixture.root + "/agent/logs/default_whole_uid-whole/main/0.log"
      try await wait("log") {
        let text = (try? String(contentsOfFile: log, encoding: .utf8)) ?? ""
        return text.contains("F hello from the API\n") && text.contains("F me whole sesame\n")
      }

      // The volume that both share lies on the node.
      let shared = fixture.root + "/agent/pods/uid-whole/volumes/shared/die"
      try Disk.write([], to: shared)
      try await wait("restart") {
        api.pod["status"]["containerStatuses"][0]["restartCount"].int == 1
          && !api.pod["status"]["containerStatuses"][0]["state"]["running"].isNull
      }
      let last = api.pod["status"]["containerStatuses"][0]["lastState"]["terminated"]
      #expect(last["exitCode"].int == 4)
      #expect(last["reason"].string == "Error")

      let marked = api.change { pod in
        pod["metadata"]["deletionTimestamp"] = Value(Timestamp.wallClock())
        pod["metadata"]["deletionGracePeriodSeconds"] = 1
      }
      await worker.update(marked)
      try await wait("deletion") { api.state.withLock { $0.isDeleted } }
      // The last status told how they ended: one heard the signal, one needed SIGKILL.
      let statuses = api.pod["status"]["containerStatuses"]
      #expect(statuses[0]["state"]["terminated"]["exitCode"].int == 137)
      #expect(statuses[1]["state"]["terminated"]["exitCode"].int == 0)
      #expect(api.events.filter { $0 == "Killing" }.count == 2)
      #expect(fixture.leftovers() == [])
      #expect(Disk.names(in: fixture.root + "/agent/pods") == [])
      #expect(Disk.names(in: fixture.root + "/agent/logs") == [])
    }
  }

  @Test func `what is missing is told, and comes right when it is there`() async throws {
    let fixture = try RuntimeFixture()
    let api = ScriptedAPI(
      manifest(
        "lacking",
        [
          "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
          "volumes": [["name": "v", "configMap": ["name": "late"]]],
          "containers": [
            [
              "name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent",
              "command": ["cat", "/v/k"],
              "securityContext": ["seccompProfile": ["type": "RuntimeDefault"]],
              "volumeMounts": [["name": "v", "mountPath": "/v"]],
            ]
          ],
        ]))
    try await run(api, fixture) { _ in
      try await wait("FailedMount") { api.events.contains("FailedMount") }
      #expect(api.events.contains("NotSupported"))
      #expect(
        api.pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].string
          == "ContainerCreating")
      api.state.withLock { $0.configMaps["late"] = ["kind": "ConfigMap", "data": ["k": "v"]] }
      try await wait("success") { api.pod["status"]["phase"].string == "Succeeded" }
      #expect(
        api.pod["status"]["conditions"].elements.first { $0["type"].string == "Ready" }?["reason"]
          .string == "PodCompleted")
    }
  }

  @Test func `an image that isn't there`() async throws {
    let fixture = try RuntimeFixture()
    let api = ScriptedAPI(
      manifest(
        "imageless",
        [
          "containers": [
            ["name": "a", "image": "nowhere/nothing:1"],
            ["name": "b", "image": "NOT A NAME"],
            ["name": "c", "image": "nothing", "imagePullPolicy": "Never"],
          ]
        ]))
    try await run(api, fixture) { _ in
      try await wait("errors") {
        let reasons = api.pod["status"]["containerStatuses"].elements.map {
          $0["state"]["waiting"]["reason"].string
        }
        return reasons == ["ErrImagePull", "InvalidImageName", "ErrImageNeverPull"]
      }
      #expect(api.pod["status"]["phase"].string == "Pending")
    }
  }
}

@Suite("Containers of a manifest") struct PreparationTests {
  @Test func `variables are expanded`() {
    let environment = [(name: "A", value: "1"), (name: "B", value: "$(A)")]
    for (text, expected) in [
      ("$(A)", "1"), ("x$(A)y$(B)", "x1y$(A)"), ("$(C)", "$(C)"), ("$$(A)", "$(A)"), ("$", "$"),
      ("$(A", "$(A"), ("$A", "$A"), ("", ""),
    ] {
      #expect(ContainerPreparation.expand(text, environment) == expected, "\(text)")
    }
  }

  @Test func `classes of service`() {
    func quality(_ resources: Value...) -> PodQuality {
      PodQuality(["containers": .array(resources.map { ["resources": $0] })])
    }
    #expect(quality([:]) == .bestEffort)
    #expect(quality(["requests": ["cpu": "1"]]) == .burstable)
    let full: Value = ["limits": ["cpu": "1", "memory": "1Gi"]]
    #expect(quality(full) == .guaranteed)
    #expect(quality(full, [:]) == .burstable)
    #expect(
      quality(["limits": ["cpu": "1", "memory": "1Gi"], "requests": ["cpu": "500m"]]) == .burstable)
  }
}

extension PodWorkerTests {
  @Test func `probes and hooks act on a container`() async throws {
    let fixture = try RuntimeFixture()
    let api = ScriptedAPI(
      manifest(
        "probed",
        [
          "terminationGracePeriodSeconds": 5,
          "volumes": [["name": "shared", "emptyDir": [:]]],
          "containers": [
            [
              "name": "main", "image": "busybox", "imagePullPolicy": "IfNotPresent",
              "command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"],
              "volumeMounts": [["name": "shared", "mountPath": "/shared"]],
              "lifecycle": [
                "postStart": ["exec": ["command": ["sh", "-c", "echo $HOSTNAME > /shared/begun"]]],
                "preStop": ["exec": ["command": ["touch", "/shared/stopped"]]],
              ],
              "readinessProbe": [
                "exec": ["command": ["test", "-e", "/shared/ready"]], "periodSeconds": 1,
              ],
              "livenessProbe": [
                "exec": ["command": ["sh", "-c", "! cat /shared/ill"]], "periodSeconds": 1,
                "failureThreshold": 1,
              ],
            ]
          ],
        ]))
    try await run(api, fixture) { worker in
      let shared = fixture.root + "/agent/pods/uid-probed/volumes/shared"
      func main() -> Value { api.pod["status"]["containerStatuses"].elements.first ?? .null }
      try await wait("running") { !main()["state"]["running"].isNull }
      try await wait("the postStart hook") { Disk.exists(shared + "/begun") }
      let begun = try Disk.read(shared + "/begun")
      #expect(begun == Array("probed\n".utf8))
      try await wait("an unsuccessful probe") { api.events.contains("Unhealthy") }
      #expect(main()["ready"].bool == false)
      try Disk.write([], to: shared + "/ready", mode: 0o644)
      try await wait("ready") { main()["ready"].bool == true }
      try Disk.write(Array("pale".utf8), to: shared + "/ill", mode: 0o644)
      try await wait("the preStop hook") { Disk.exists(shared + "/stopped") }
      unlink(shared + "/ill")
      unlink(shared + "/stopped")
      try await wait("restarted") {
        main()["restartCount"].int == 1 && main()["ready"].bool == true
      }
      #expect(main()["lastState"]["terminated"]["exitCode"].int == 0)
      #expect(
        api.messages.contains("Container main failed liveness probe, will be restarted"))
      #expect(api.messages.contains("Liveness probe failed: pale"))
      let marked = api.change { pod in
        pod["metadata"]["deletionTimestamp"] = Value(Timestamp.wallClock().adding(.seconds(5)))
        pod["metadata"]["deletionGracePeriodSeconds"] = 5
      }
      await worker.update(marked)
      try await wait("gone") { api.state.withLock { $0.isDeleted } }
    }
  }

  @Test func `a failed postStart hook ends the container`() async throws {
    let fixture = try RuntimeFixture()
    let api = ScriptedAPI(
      manifest(
        "hooked",
        [
          "terminationGracePeriodSeconds": 0, "restartPolicy": "Never",
          "containers": [
            [
              "name": "main", "image": "busybox", "imagePullPolicy": "IfNotPresent",
              "command": ["sleep", "1000"],
              "lifecycle": ["postStart": ["exec": ["command": ["false"]]]],
            ]
          ],
        ]))
    try await run(api, fixture) { worker in
      try await wait("ended") { api.pod["status"]["phase"].string == "Failed" }
      #expect(api.events.contains("FailedPostStartHook"))
    }
  }

  @Test func `volumes follow the API, services are found by variables`() async throws {
    let fixture = try RuntimeFixture()
    let api = ScriptedAPI(
      manifest(
        "live",
        [
          "terminationGracePeriodSeconds": 0,
          "volumes": [
            [
              "name": "all",
              "projected": [
                "sources": [
                  ["configMap": ["name": "settings"]],
                  ["serviceAccountToken": ["path": "token", "audience": "vault"]],
                  [
                    "downwardAPI": [
                      "items": [
                        ["path": "labels", "fieldRef": ["fieldPath": "metadata.labels"]],
                        [
                          "path": "limit",
                          "resourceFieldRef": [
                            "containerName": "c", "resource": "limits.memory", "divisor": "1Mi",
                          ],
                        ],
                      ]
                    ]
                  ],
                ]
              ],
            ]
          ],
          "containers": [
            [
              "name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent",
              "resources": ["limits": ["memory": "64Mi"]],
              "command": [
                "sh", "-c", "echo $KUBERNETES_SERVICE_HOST $MY_APP_PORT_80_TCP; sleep 1000",
              ],
              "volumeMounts": [["name": "all", "mountPath": "/all"]],
            ]
          ],
        ]))
    func service(_ name: String, _ namespace: String, _ address: String) -> Value {
      [
        "metadata": ["name": Value(name), "namespace": Value(namespace)],
        "spec": ["clusterIP": Value(address), "ports": [["port": 80, "protocol": "TCP"]]],
      ]
    }
    api.state.withLock { state in
      state.configMaps["settings"] = ["kind": "ConfigMap", "data": ["a": "1", "gone": "x"]]
      state.services = [
        service("kubernetes", "default", "10.96.0.1"), service("my-app", "default", "10.96.0.2"),
        service("other", "elsewhere", "10.96.0.3"),
      ]
    }
    try await run(api, fixture) { worker in
      let volume = fixture.root + "/agent/pods/uid-live/volumes/all"
      func text(_ name: String) -> String {
        String(decoding: (try? Disk.read("\(volume)/\(name)")) ?? [], as: UTF8.self)
      }
      try await wait("running") {
        !api.pod["status"]["containerStatuses"][0]["state"]["running"].isNull
      }
      #expect(text("a") == "1")
      #expect(text("labels") == "app=\"test\"")
      #expect(text("limit") == "64")
      try await wait("the next token") { text("token") == "token 2 for vault" }
      let log = fixture.root + "/agent/logs/default_live_uid-live/c/0.log"
      try await wait("what the container printed") {
        String(decoding: (try? Disk.read(log)) ?? [], as: UTF8.self)
          .contains("10.96.0.1 tcp://10.96.0.2:80")
      }

      api.state.withLock { $0.configMaps["settings"] = ["kind": "ConfigMap", "data": ["a": "2"]] }
      api.state.withLock { $0.changed }?()
      try await wait("the new content") { text("a") == "2" }
      #expect(!Disk.exists(volume + "/gone"))
      #expect(text("token") == "token 2 for vault")
      await worker.update(api.change { $0["metadata"]["labels"]["app"] = "renamed" })
      try await wait("the new label") { text("labels") == "app=\"renamed\"" }
      // The old versions are gone: one directory, its link, and four names.
      try await wait("one version") { Disk.names(in: volume).count == 6 }

      // Its source gone, a volume keeps what it has.
      api.state.withLock { $0.configMaps = [:] }
      api.state.withLock { $0.changed }?()
      try await Task.sleep(for: .milliseconds(100))
      #expect(text("a") == "2")
      await worker.markGone()
      try await wait("gone") { fixture.leftovers() == [] }
    }
  }
}
