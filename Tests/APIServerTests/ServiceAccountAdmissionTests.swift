import KubeAPI
import Primitives
import Testing

@testable import APIServer

/// What the admission gives new pods of their service account. Accounts: `default`, `quiet`
/// (automountServiceAccountToken: false) and `puller` (with imagePullSecrets).
@Suite("Service account admission")
struct ServiceAccountAdmissionTests {
  private func admit(_ pod: Value) async throws(StatusError) -> Value {
    let admission = Admission { (_, plural, _, name) async throws(StatusError) in
      guard plural == "serviceaccounts" else { return nil }
      switch name {
      case "default": return ["metadata": ["name": "default"]]
      case "quiet":
        return ["metadata": ["name": "quiet"], "automountServiceAccountToken": false]
      case "puller":
        return ["metadata": ["name": "puller"], "imagePullSecrets": [["name": "registry"]]]
      default: return nil
      }
    }
    guard let pods = Scheme.builtIn.resource(GroupVersion(group: "", version: "v1"), "pods") else {
      throw .internalError("no pods")
    }
    var pod = pod
    try await admission.mutate(&pod, of: pods, namespace: "ns") { RandomSource(seed: 1) }
    return pod
  }

  private let plain: Value = [
    "metadata": ["name": "p"],
    "spec": ["initContainers": [["name": "i"]], "containers": [["name": "a"], ["name": "b"]]],
  ]
  private let place = "/var/run/secrets/kubernetes.io/serviceaccount"

  @Test("every container gets the token, the authority and the namespace")
  func mounts() async throws {
    let spec = try await admit(plain)["spec"]
    #expect(spec["serviceAccountName"] == "default")
    let name = try #require(spec["volumes"][0]["name"].string)
    #expect(name.hasPrefix("kube-api-access-") && name.utf8.count == "kube-api-access-".utf8.count + 5)
    let sources = spec["volumes"][0]["projected"]["sources"]
    #expect(sources[0]["serviceAccountToken"] == ["expirationSeconds": 3607, "path": "token"])
    #expect(sources[1]["configMap"]["name"] == "kube-root-ca.crt")
    #expect(sources[2]["downwardAPI"]["items"][0]["path"] == "namespace")
    for container in spec["initContainers"].elements + spec["containers"].elements {
      #expect(
        container["volumeMounts"] == [
          ["name": Value(name), "readOnly": true, "mountPath": Value(place)]
        ])
    }
  }

  @Test("neither a pod nor an account that declines gets one; the pod's word goes before the account's")
  func declines() async throws {
    var pod = plain
    pod["spec"]["automountServiceAccountToken"] = false
    #expect(try await admit(pod)["spec"]["volumes"].isEmpty)
    pod = plain
    pod["spec"]["serviceAccountName"] = "quiet"
    #expect(try await admit(pod)["spec"]["volumes"].isEmpty)
    pod["spec"]["automountServiceAccountToken"] = true
    #expect(try await admit(pod)["spec"]["volumes"].elements.count == 1)
  }

  @Test("a container that mounts something there keeps it, and a volume of that name serves the others")
  func ownMount() async throws {
    var pod = plain
    pod["spec"]["volumes"] = [["name": "kube-api-access-mine", "emptyDir": [:]]]
    pod["spec"]["containers"][0]["volumeMounts"] = [["name": "x", "mountPath": Value(place)]]
    let spec = try await admit(pod)["spec"]
    #expect(spec["volumes"].elements.count == 1)
    #expect(spec["containers"][0]["volumeMounts"][0]["name"] == "x")
    #expect(spec["containers"][1]["volumeMounts"][0]["name"] == "kube-api-access-mine")
  }

  @Test("the account's pull secrets are the pod's, where it has none")
  func pullSecrets() async throws {
    var pod = plain
    pod["spec"]["serviceAccountName"] = "puller"
    #expect(try await admit(pod)["spec"]["imagePullSecrets"] == [["name": "registry"]])
    pod["spec"]["imagePullSecrets"] = [["name": "own"]]
    #expect(try await admit(pod)["spec"]["imagePullSecrets"] == [["name": "own"]])
  }

  @Test("a pod of an account that isn't there is refused")
  func unknownAccount() async throws {
    var pod = plain
    pod["spec"]["serviceAccountName"] = "nobody"
    do {
      _ = try await admit(pod)
      Issue.record("it was taken")
    } catch {
      #expect(error.code == 403)
      #expect(
        error.message
          == "pods \"p\" is forbidden: error looking up service account ns/nobody: "
          + "serviceaccount \"nobody\" not found")
    }
  }

  @Test("a mirror pod gets nothing and may ask for nothing")
  func mirror() async throws {
    var pod = plain
    pod["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "hash"
    let spec = try await admit(pod)["spec"]
    #expect(spec["serviceAccountName"].isNull && spec["volumes"].isEmpty)
    for (path, why) in [
      ("account", "a mirror pod may not reference service accounts"),
      ("secret", "a mirror pod may not reference secrets"),
      ("token", "a mirror pod may not use ServiceAccountToken volume projections"),
    ] {
      var wrong = pod
      switch path {
      case "account": wrong["spec"]["serviceAccountName"] = "default"
      case "secret":
        wrong["spec"]["containers"][0]["env"] = [
          ["name": "A", "valueFrom": ["secretKeyRef": ["name": "s", "key": "k"]]]
        ]
      default:
        wrong["spec"]["volumes"] = [
          ["name": "v", "projected": ["sources": [["serviceAccountToken": ["path": "t"]]]]]
        ]
      }
      do {
        _ = try await admit(wrong)
        Issue.record("\(path) was taken")
      } catch { #expect(error.message.hasSuffix(why)) }
    }
  }
}

/// Tokens of machines that join.
@Suite("Bootstrap tokens")
struct BootstrapTokenTests {
  private func secret(_ data: [String: String], type: String = "bootstrap.kubernetes.io/token") -> Value {
    var secret: Value = ["type": Value(type)]
    for (key, value) in data { secret["data"][key] = Value(Base64.encode(value.utf8)) }
    return secret
  }
  private let good = [
    "token-id": "abcdef", "token-secret": "0123456789abcdef",
    "usage-bootstrap-authentication": "true",
    "auth-extra-groups": "system:bootstrappers:here,system:masters",
  ]
  private let now = Timestamp(secondsSinceEpoch: 1_767_225_600)

  @Test("a good one is a bootstrapper and never more, whatever its secret says")
  func user() throws {
    let token = try #require(BootstrapTokens.parse("abcdef.0123456789abcdef"))
    let user = try #require(BootstrapTokens.user(token, secret(good), now: now))
    #expect(user.name == "system:bootstrap:abcdef")
    #expect(user.groups == ["system:bootstrappers", "system:bootstrappers:here"])
  }

  @Test("what is wrong, over, or meant for something else isn't let in")
  func refusals() throws {
    for text in ["abcdef.0123456789abcde", "ABCDEF.0123456789abcdef", "abcdef0123456789abcdef", "."] {
      #expect(BootstrapTokens.parse(text) == nil)
    }
    let token = try #require(BootstrapTokens.parse("abcdef.0123456789abcdef"))
    for (key, value) in [
      ("token-secret", "0123456789abcdee"), ("token-id", "abcdee"),
      ("usage-bootstrap-authentication", "false"), ("expiration", "2025-12-31T23:59:59Z"),
      ("expiration", "tomorrow"),
    ] {
      var data = good
      data[key] = value
      #expect(BootstrapTokens.user(token, secret(data), now: now) == nil, "\(key): \(value)")
    }
    #expect(BootstrapTokens.user(token, secret(good, type: "Opaque"), now: now) == nil)
    var later = good
    later["expiration"] = "2026-01-01T00:00:01Z"
    #expect(BootstrapTokens.user(token, secret(later), now: now) != nil)
  }
}
