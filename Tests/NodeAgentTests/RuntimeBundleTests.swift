import KubeAPI
import TestKit
import Testing

@testable import NodeAgent

/// `bundle` with a container of a pod as input prints the OCI configuration that crun is given;
/// `image=` names one of the images below.
@Suite("OCI configuration") struct RuntimeBundleTests {
  private static let images: [String: Image.Configuration] = {
    var shell = Image.Configuration()
    shell.command = ["sh"]
    shell.environment = ["PATH=/bin", "LANG=C"]
    var server = Image.Configuration()
    server.entrypoint = ["/server", "--serve"]
    server.command = ["--port=80"]
    server.workingDirectory = "/srv"
    server.user = "web"
    return ["shell": shell, "server": server]
  }()

  @Test(arguments: GoldenRunner().files.filter { $0.hasPrefix("bundle") })
  func transcript(file: String) throws {
    try GoldenRunner().run(file) { command in
      var container = try Value(json: command.input)
      container["name"] = "c"
      let pod = PodManifest([
        "metadata": ["name": "p", "namespace": "n", "uid": "u"],
        "spec": ["containers": [container]],
      ])
      let digest = try #require(Digest("sha256:" + String(repeating: "0", count: 64)))
      let image = Image(
        id: digest, manifest: digest, names: [], layers: [], size: 0,
        configuration: try #require(Self.images[command.value("image") ?? "shell"]))
      var configuration = ContainerConfiguration(name: "c", image: image, imageReference: "x")
      configuration.command = container["command"].array.map { $0.compactMap(\.string) }
      configuration.arguments = container["args"].array.map { $0.compactMap(\.string) }
      configuration.workingDirectory = container["workingDir"].string
      configuration.environment = container["env"].elements.map {
        ($0["name"].string ?? "", $0["value"].string ?? "")
      }
      configuration.mounts = container["volumeMounts"].elements.map {
        .init(
          source: "/volumes/\($0["name"].string ?? "")", target: $0["mountPath"].string ?? "",
          isReadOnly: $0["readOnly"].bool ?? false)
      }
      configuration.resources = ContainerPreparation.resources(pod, container)
      configuration.security = ContainerPreparation.security(pod, container)
      // Depends on the machine's memory for burstable pods.
      configuration.resources.oomScoreAdjustment = nil
      let lookup = UserLookup(
        passwd: "root:x:0:0:root:/root:/bin/sh\nweb:x:33:44::/:/bin/false\n",
        group: "root:x:0:\nwww:x:44:\nextra:x:55:web,other\n")
      do {
        let bundle = RuntimeBundle(
          configuration: configuration,
          identity: try lookup.resolve(
            image.configuration.user, userID: configuration.security.userID,
            groupID: configuration.security.groupID),
          hostname: "p", usesHostPID: command.has("host-pid"),
          namespaces: [("network", "/proc/7/ns/net")],
          cgroups: command.value("cgroups").flatMap(Cgroups.init) ?? .version2,
          cgroupPath: "/martlet/podu/1", sandboxDirectory: "/s", containerDirectory: "/s/c")
        let json = try bundle.json()
        guard let part = command.value("show") else { return json.indentedJSON() }
        return part.split(separator: ",").map { path in
          let found = json.find(path: path.split(separator: ".").map(String.init))
          return "\(path): \(found?.jsonString ?? "none")"
        }.joined(separator: "\n")
      } catch {
        return "error: \(error)"
      }
    }
  }
}
