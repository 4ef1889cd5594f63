import Glibc
import KubeAPI
import Synchronization

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
  private let tokens = TokenCache()

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

  private func fsGroup(_ pod: PodManifest) -> UInt32? {
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
    var info = stat()
    let exists = stat(path, &info) == 0
    func check(_ type: mode_t, _ words: String) throws {
      guard exists, info.st_mode & S_IFMT == type else {
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

  // MARK: Content from the API

  struct Files {
    struct File {
      var content: [UInt8]
      var mode: mode_t
    }
    /// By path relative to the volume.
    var byPath: [String: File] = [:]
    var bytes = 0
    /// A part could not be had and was left out.
    var isIncomplete = false

    mutating func add(_ path: String, _ content: [UInt8], _ mode: mode_t) throws {
      let parts = path.split(separator: "/", omittingEmptySubsequences: false)
      guard !path.isEmpty, !path.hasPrefix("/"),
        !parts.contains(where: { $0.isEmpty || $0 == ".." }),
        !(parts.first ?? "").hasPrefix("..")
      else { throw PreparationError("\"\(path)\" is not a path inside the volume") }
      bytes += content.count
      guard bytes <= Limits.contentBytes else {
        throw PreparationError("more than \(Limits.contentBytes) bytes of content")
      }
      byPath[path] = File(content: content, mode: mode)
    }
  }

  private func collect(
    _ pod: PodManifest, _ kind: String, _ source: Value, _ defaultMode: mode_t,
    _ files: inout Files
  ) async throws {
    switch kind {
    case "configMap", "secret":
      let isSecret = kind == "secret"
      let name = source["name"].string ?? source["secretName"].string ?? ""
      let isOptional = source["optional"].bool ?? false
      let object =
        isSecret
        ? try await api.secret(namespace: pod.namespace, name: name)
        : try await api.configMap(namespace: pod.namespace, name: name)
      guard let object else {
        if isOptional { return }
        throw PreparationError("\(isSecret ? "secret" : "configmap") \"\(name)\" not found")
      }
      let content = Self.content(of: object)
      let items = source["items"].elements
      guard !items.isEmpty else {
        for (key, bytes) in content { try files.add(key, bytes, defaultMode) }
        return
      }
      for item in items {
        let key = item["key"].string ?? ""
        guard let bytes = content.first(where: { $0.key == key })?.bytes else {
          if isOptional { continue }
          throw PreparationError(
            "references non-existent \(isSecret ? "secret" : "config") key: \(key)")
        }
        let mode = item["mode"].int.map { mode_t(truncatingIfNeeded: $0) & 0o777 } ?? defaultMode
        try files.add(item["path"].string ?? key, bytes, mode)
      }
    case "downwardAPI":
      for item in source["items"].elements {
        let mode = item["mode"].int.map { mode_t(truncatingIfNeeded: $0) & 0o777 } ?? defaultMode
        if item.has("resourceFieldRef") {
          let text = try ContainerPreparation.resourceField(item["resourceFieldRef"], pod, .null)
          try files.add(item["path"].string ?? "", Array(text.utf8), mode)
          continue
        }
        let path = item["fieldRef"]["fieldPath"].string ?? ""
        guard let text = PodFields.value(path, of: pod.object) else {
          throw PreparationError("downwardAPI field \"\(path)\" is not supported")
        }
        try files.add(item["path"].string ?? "", Array(text.utf8), mode)
      }
    case "serviceAccountToken":
      let audience = source["audience"].string.flatMap { $0.isEmpty ? nil : $0 }
      let seconds = source["expirationSeconds"].integer ?? 3_600
      let token = try await tokens.token(audience, seconds) {
        try await api.token(audience: audience, seconds: seconds, for: pod)
      }
      guard let token else {
        files.isIncomplete = true
        return
      }
      // Whoever the containers run as must be able to read it, and nobody else.
      let isOwn = fsGroup(pod) != nil || pod.object["spec"]["securityContext"]["runAsUser"].isNull
      try files.add(source["path"].string ?? "token", Array(token.utf8), isOwn ? 0o600 : 0o644)
    case "clusterTrustBundle":
      // Reported by `omissions`.
      return
    default: throw PreparationError("projected source \(kind) is not supported")
    }
  }

  /// The keys and bytes of a config map or secret; entries that aren't valid base64 are left out, as the
  /// API server would not have taken them.
  static func content(of object: Value) -> [(key: String, bytes: [UInt8])] {
    var content: [(key: String, bytes: [UInt8])] = []
    let isSecret = object["kind"].string == "Secret"
    for member in object["data"].members {
      let text = member.value.string ?? ""
      if isSecret {
        if let bytes = Base64.decode(text) { content.append((member.key, bytes)) }
      } else {
        content.append((member.key, Array(text.utf8)))
      }
    }
    for member in object["binaryData"].members {
      if let bytes = Base64.decode(member.value.string ?? "") {
        content.append((member.key, bytes))
      }
    }
    return content
  }

  /// Writes the files into a fresh directory and switches the volume to it in one step.
  private func publish(_ files: Files, to volume: String, group: UInt32?) throws {
    try Disk.makeDirectories(volume, mode: 0o755)
    if isShown(files, by: volume) { return }
    let before = Self.link(volume + "/..data")
    let version = "..\(Timestamp.wallClock().nanosecondText)"
    let directory = "\(volume)/\(version)"
    for (path, file) in files.byPath {
      let target = "\(directory)/\(path)"
      if let slash = target.lastIndex(of: "/") {
        try Disk.makeDirectories(String(target[..<slash]), mode: 0o755)
      }
      try Disk.write(file.content, to: target, mode: file.mode)
      if let group {
        chown(target, 0, group)
        chmod(target, file.mode | (file.mode & 0o600) >> 3)
      }
    }
    try Disk.makeDirectories(directory, mode: 0o755)
    let names = Set(files.byPath.keys.map { String($0.prefix { $0 != "/" }) })
    for name in names where Self.link("\(volume)/\(name)") != "..data/\(name)" {
      unlink("\(volume)/\(name)")
      guard symlink("..data/\(name)", "\(volume)/\(name)") == 0 else {
        throw SystemError("link", name)
      }
    }
    let link = volume + "/..data_tmp"
    unlink(link)
    guard symlink(version, link) == 0, rename(link, volume + "/..data") == 0 else {
      throw SystemError("switch", volume)
    }
    guard let before else { return }
    for name in Disk.names(in: volume) where !name.hasPrefix("..") && !names.contains(name) {
      unlink("\(volume)/\(name)")
    }
    if before.hasPrefix(".."), !before.contains("/") {
      try? Disk.removeTree("\(volume)/\(before)")
    }
  }

  private static func link(_ path: String) -> String? {
    var buffer = [UInt8](repeating: 0, count: 4_096)
    let count = readlink(path, &buffer, buffer.count)
    return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : nil
  }

  /// Whether a volume already has exactly this content.
  private func isShown(_ files: Files, by volume: String) -> Bool {
    guard Disk.kind(volume + "/..data") != nil else { return false }
    let shown = Set(Disk.names(in: volume).filter { !$0.hasPrefix("..") })
    guard shown == Set(files.byPath.keys.map({ String($0.prefix { $0 != "/" }) })) else {
      return false
    }
    return Self.count(volume + "/..data/") == files.byPath.count
      && files.byPath.allSatisfy { path, file in
        (try? Disk.read("\(volume)/..data/\(path)")) == file.content
      }
  }

  /// How many files lie below a directory.
  private static func count(_ directory: String) -> Int {
    Disk.names(in: directory).reduce(0) { sum, name in
      let path = "\(directory)/\(name)"
      return sum + (Disk.kind(path) == .directory ? count(path) : 1)
    }
  }
}

/// A pod's tokens, kept until they are to be renewed.
private final class TokenCache: Sendable {
  private struct Key: Hashable {
    var audience: String?
    var seconds: Int64
  }
  private let tokens = Mutex<[Key: (token: String, renewAt: Timestamp)]>([:])

  var nextRenewal: Timestamp? { tokens.withLock { $0.values.map(\.renewAt).min() } }

  func token(
    _ audience: String?, _ seconds: Int64,
    _ make: () async throws -> (token: String, renewAt: Timestamp)?
  ) async throws -> String? {
    let key = Key(audience: audience, seconds: seconds)
    if let known = tokens.withLock({ $0[key] }), Timestamp.wallClock() < known.renewAt {
      return known.token
    }
    guard let new = try await make() else { return nil }
    tokens.withLock { $0[key] = new }
    return new.token
  }
}

/// The pod's own fields, as the downward API names them.
enum PodFields {
  /// The text of a field; nil for paths that the downward API doesn't have.
  static func value(_ path: String, of pod: Value) -> String? {
    let metadata = pod["metadata"]
    switch path {
    case "metadata.name": return metadata["name"].string ?? ""
    case "metadata.namespace": return metadata["namespace"].string ?? ""
    case "metadata.uid": return metadata["uid"].string ?? ""
    case "spec.nodeName": return pod["spec"]["nodeName"].string ?? ""
    case "spec.serviceAccountName": return pod["spec"]["serviceAccountName"].string ?? ""
    case "status.hostIP": return pod["status"]["hostIP"].string ?? ""
    case "status.podIP": return pod["status"]["podIP"].string ?? ""
    case "status.hostIPs", "status.podIPs":
      let name = String(path.dropFirst("status.".count))
      return pod["status"][name].elements.compactMap { $0["ip"].string }.joined(separator: ",")
    case "metadata.labels": return lines(metadata["labels"])
    case "metadata.annotations": return lines(metadata["annotations"])
    default:
      for (prefix, key) in [
        ("metadata.labels['", "labels"), ("metadata.annotations['", "annotations"),
      ]
      where path.hasPrefix(prefix) && path.hasSuffix("']") {
        let name = path.dropFirst(prefix.count).dropLast(2)
        return metadata[key][String(name)].string ?? ""
      }
      return nil
    }
  }

  /// `key="value"` a line, sorted, the value quoted.
  private static func lines(_ value: Value) -> String {
    value.members.sorted { $0.key < $1.key }
      .map { "\($0.key)=\(Value.string($0.value.string ?? "").jsonString)" }
      .joined(separator: "\n")
  }
}
