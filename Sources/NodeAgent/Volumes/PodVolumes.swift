import Glibc
import KubeAPI

/// Why a pod's volume or environment can't be prepared, in Kubernetes' words where it has any.
struct PreparationError: Error, Sendable, CustomStringConvertible {
  var message: String
  init(_ message: String) { self.message = message }
  var description: String { message }
}

/// Fills a pod's volumes: directories on the node that its containers mount.
///
/// Content that comes from the API (config maps, secrets, the pod's own fields) is written as a whole into
/// a new directory, to which a link `..data` is then switched; the visible names are links through
/// `..data`. So a container sees either all of the old content or all of the new, and Kubernetes'
/// clients, which watch for exactly that link, work.
///
/// What can't be provided is an error that names the volume, never an empty directory: a container
/// would take that for the truth. The one exception is a projected service account token where the API
/// server gives none, because every pod has one by default and few use it.
struct PodVolumes: Sendable {
  let paths: PodPaths
  let api: any PodAPI
  let tokens = TokenCache()

  init(paths: PodPaths, api: any PodAPI) {
    self.paths = paths
    self.api = api
  }

  enum Limits {
    /// The content of one volume from the API, in bytes; objects are no larger than 1.5 MiB each.
    static let contentBytes = 16 << 20
  }

  /// Directories in memory that the sandbox mounts.
  func memoryVolumes(_ pod: PodManifest) -> [SandboxConfiguration.MemoryVolume] {
    pod.object["spec"]["volumes"].elements.compactMap { volume in
      guard let name = volume["name"].string, volume["emptyDir"]["medium"].string == "Memory"
      else { return nil }
      return .init(
        path: paths.volume(pod.uid, name),
        sizeBytes: volume["emptyDir"]["sizeLimit"].quantity?.value)
    }
  }

  /// What the pod asks for and does not get, in words.
  static func omissions(_ pod: PodManifest) -> [String] {
    var found: [String] = []
    for volume in pod.object["spec"]["volumes"].elements {
      for source in volume["projected"]["sources"].elements where source.has("clusterTrustBundle") {
        let kind = source.members.first?.key ?? ""
        found.append("volume \"\(volume["name"].string ?? "")\": source \(kind)")
      }
    }
    return found
  }

  private static let kindsWithContent: Set<String> = [
    "configMap", "secret", "downwardAPI", "projected",
  ]

  /// The config maps and secrets whose content the pod's volumes show.
  static func references(_ pod: PodManifest) -> Set<ObjectReference> {
    var found: Set<ObjectReference> = []
    func add(_ source: Value) {
      if let name = source["configMap"]["name"].string {
        found.insert(ObjectReference(.configMap, namespace: pod.namespace, name: name))
      }
      if let name = source["secret"]["secretName"].string ?? source["secret"]["name"].string {
        found.insert(ObjectReference(.secret, namespace: pod.namespace, name: name))
      }
    }
    for volume in pod.object["spec"]["volumes"].elements {
      add(volume)
      for source in volume["projected"]["sources"].elements { add(source) }
    }
    return found
  }

  /// Brings the content that comes from the API up to date. A volume whose source is gone keeps what it
  /// has.
  ///
  /// - Returns: when to do so again for the sake of a token; nil for no such time.
  func refresh(_ pod: PodManifest) async -> Timestamp? {
    for volume in pod.object["spec"]["volumes"].elements {
      guard let name = volume["name"].string,
        let source = volume.members.first(where: { Self.kindsWithContent.contains($0.key) })
      else { continue }
      try? await prepare(pod, name, source.key, source.value)
    }
    return tokens.nextRenewal
  }

  /// Prepares all volumes of a pod; directories that are there already stay.
  func prepare(_ pod: PodManifest) async throws {
    try Disk.makeDirectories(paths.volumes(pod.uid), mode: 0o750)
    for volume in pod.object["spec"]["volumes"].elements {
      let name = volume["name"].string ?? ""
      guard let source = volume.members.first(where: { $0.key != "name" }) else {
        try emptyDirectory(pod, name)
        continue
      }
      do {
        try await prepare(pod, name, source.key, source.value)
      } catch let error as SystemError {
        throw PreparationError("MountVolume.SetUp failed for volume \"\(name)\" : \(error)")
      } catch let error as PreparationError {
        throw PreparationError("MountVolume.SetUp failed for volume \"\(name)\" : \(error)")
      }
    }
  }

  private func prepare(
    _ pod: PodManifest, _ name: String, _ kind: String, _ source: Value
  ) async throws {
    switch kind {
    case "emptyDir":
      let medium = source["medium"].string ?? ""
      guard medium.isEmpty || medium == "Memory" else {
        throw PreparationError("emptyDir medium \"\(medium)\" is not supported")
      }
      try emptyDirectory(pod, name)
    case "hostPath": try hostPath(source)
    case "configMap", "secret", "downwardAPI", "projected":
      var files = Files()
      let mode = source["defaultMode"].int.map { mode_t(truncatingIfNeeded: $0) & 0o777 } ?? 0o644
      let sources =
        kind == "projected"
        ? source["sources"].elements
        : [.object([kind == "secret" ? "secret" : kind: source])]
      for source in sources {
        for member in source.members {
          try await collect(pod, member.key, member.value, mode, &files)
        }
      }
      if files.isIncomplete, Disk.kind(paths.volume(pod.uid, name) + "/..data") != nil { return }
      try publish(files, to: paths.volume(pod.uid, name), group: fsGroup(pod))
    default:
      throw PreparationError("volumes of type \(kind) are not supported by this node")
    }
  }

  func fsGroup(_ pod: PodManifest) -> UInt32? {
    pod.object["spec"]["securityContext"]["fsGroup"].integer.flatMap { UInt32(exactly: $0) }
  }

  private func emptyDirectory(_ pod: PodManifest, _ name: String) throws(SystemError) {
    let path = paths.volume(pod.uid, name)
    if Disk.exists(path) { return }
    try Disk.makeDirectories(path, mode: 0o777)
    if let group = fsGroup(pod) {
      // New files inherit the group.
      chown(path, 0, group)
      chmod(path, 0o2777)
    } else {
      chmod(path, 0o777)
    }
  }

  private func hostPath(_ source: Value) throws {
    let path = source["path"].string ?? ""
    guard path.hasPrefix("/"), !path.split(separator: "/").contains("..") else {
      throw PreparationError("hostPath \"\(path)\" must be absolute and without '..'")
    }
    let kind = source["type"].string ?? ""
    let found = Disk.type(path)
    let exists = found != nil
    func check(_ type: mode_t, _ words: String) throws {
      guard found == type else {
        throw PreparationError("hostPath type check failed: \(path) is not a \(words)")
      }
    }
    switch kind {
    case "": if !exists { try Disk.makeDirectories(path, mode: 0o755) }
    case "DirectoryOrCreate":
      if !exists {
        try Disk.makeDirectories(path, mode: 0o755)
      } else {
        try check(S_IFDIR, "directory")
      }
    case "FileOrCreate":
      if !exists { try Disk.write([], to: path, mode: 0o644) } else { try check(S_IFREG, "file") }
    case "Directory": try check(S_IFDIR, "directory")
    case "File": try check(S_IFREG, "file")
    case "Socket": try check(S_IFSOCK, "socket file")
    case "CharDevice": try check(S_IFCHR, "character device")
    case "BlockDevice": try check(S_IFBLK, "block device")
    default: throw PreparationError("hostPath type \"\(kind)\" is unknown")
    }
  }
}
