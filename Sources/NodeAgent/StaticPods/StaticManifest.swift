import Crypto
import KubeAPI
import KubeYAML

/// A pod from a file on the node instead of from the API.
///
/// Source: Kubernetes, "Create static Pods". The pod is called after the file's pod and the node, its uid is a
/// digest of what the file says, so that a changed file is another pod, and it outlasts every NoExecute taint.
struct StaticManifest: Sendable {
  struct Failure: Error, CustomStringConvertible {
    var description: String
  }

  enum Limits {
    /// A manifest's bytes; objects of the API are no larger.
    static let bytes = 1_500_000
    static let files = 256
  }

  static let hashAnnotation = "kubernetes.io/config.hash"
  static let mirrorAnnotation = "kubernetes.io/config.mirror"
  private static let sourceAnnotation = "kubernetes.io/config.source"
  private static let seenAnnotation = "kubernetes.io/config.seen"

  let object: Value
  var uid: String { object["metadata"]["uid"].string ?? "" }
  /// Namespace and name: two files can't have the same.
  var key: String {
    "\(object["metadata"]["namespace"].string ?? "")/\(object["metadata"]["name"].string ?? "")"
  }

  /// - Parameter path: the file's, which is part of the pod's identity.
  init(_ bytes: [UInt8], path: String, nodeName: String, seenAt: Timestamp) throws(Failure) {
    guard let definition = Scheme.builtIn.resource(GroupVersion(group: "", version: "v1"), "pods")
    else { throw Failure(description: "this node knows no pods") }
    do {
      let parsed = try YAML.parse(bytes)
      guard parsed["kind"].string == "Pod", parsed["apiVersion"].string == "v1" else {
        throw Failure(description: "it is no v1 Pod")
      }
      var pod = try definition.decode(parsed).value
      let name = pod["metadata"]["name"].string ?? ""
      guard !name.isEmpty else { throw Failure(description: "it has no metadata.name") }
      var hash = Insecure.MD5()
      hash.update(data: bytes)
      hash.update(data: Array("host:\(nodeName)file:\(path)".utf8))
      let uid = hash.finalize().map { byte in
        let text = String(byte, radix: 16)
        return text.utf8.count < 2 ? "0" + text : text
      }.joined()
      pod["metadata"]["name"] = Value("\(name)-\(nodeName.lowercased())")
      if pod["metadata"]["namespace"].isEmpty { pod["metadata"]["namespace"] = "default" }
      pod["metadata"]["uid"] = Value(uid)
      pod["metadata"]["creationTimestamp"] = Value(seenAt)
      for key in ["resourceVersion", "generateName", "deletionTimestamp"] {
        pod["metadata"].remove(key)
      }
      for (key, value) in [
        (Self.hashAnnotation, uid), (Self.sourceAnnotation, "file"),
        (Self.seenAnnotation, seenAt.nanosecondText),
      ] { pod["metadata"]["annotations"][key] = Value(value) }
      pod["spec"]["nodeName"] = Value(nodeName)
      pod["spec"]["tolerations"].append(["operator": "Exists", "effect": "NoExecute"])
      pod["status"] = ["phase": "Pending"]
      definition.applyDefaults(&pod)
      try definition.validate(pod)
      object = pod
    } catch let failure as Failure {
      throw failure
    } catch let failure as YAML.Failure {
      throw Failure(description: failure.message)
    } catch {
      throw Failure(description: "\((error as? StatusError)?.message ?? "\(error)")")
    }
  }

  /// Reads a manifest, or all in a directory whose names don't begin with a dot, in the order of their names.
  ///
  /// - Returns: the pods, and what is wrong with the others by their path. Of two that are called alike the
  ///   first counts.
  static func read(
    _ path: String, nodeName: String, seenAt: Timestamp
  ) -> (pods: [StaticManifest], problems: [String: String]) {
    var files = [path]
    if Disk.kind(path) == .directory {
      files = Disk.names(in: path).filter { !$0.hasPrefix(".") }.sorted().map { "\(path)/\($0)" }
        .filter { Disk.kind($0) != .directory }
    }
    var pods: [StaticManifest] = []
    var problems: [String: String] = [:]
    for (index, file) in files.enumerated() {
      guard index < Limits.files else {
        problems[file] = "there are more than \(Limits.files) manifests"
        continue
      }
      do {
        let bytes = try Disk.read(file, limit: Limits.bytes)
        let pod = try StaticManifest(bytes, path: file, nodeName: nodeName, seenAt: seenAt)
        if pods.contains(where: { $0.key == pod.key }) {
          problems[file] = "another manifest has the pod \(pod.key)"
        } else {
          pods.append(pod)
        }
      } catch {
        problems[file] = "\(error)"
      }
    }
    return (pods, problems)
  }
}
