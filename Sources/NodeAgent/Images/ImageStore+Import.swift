import CLinux
import Glibc
import KubeAPI

extension ImageStore {
  /// Imports the images of an OCI image layout.
  ///
  /// - Parameters:
  ///   - path: a layout's directory, or a tar archive of one (gzip or not), as `docker save` of version
  ///     25 and later, `podman save --format oci-archive`, `skopeo` and `buildx` write them.
  ///   - name: the name to give the image; required if the layout doesn't name it, and only possible
  ///     if it holds one image.
  ///   - architecture: of the images to take, in Go's spelling.
  /// - Returns: the images imported.
  /// - Throws: ``ImageError``. Nothing is imported then.
  public func importLayout(
    _ path: String, name: String? = nil, architecture: String = Machine.architecture
  ) throws -> [Image] {
    do {
      try prepare()
      let lock = try Descriptor(opening: root + "/lock", O_RDWR | O_CREAT)
      try lock.lockExclusively(root)
      return try importLocked(path, name, architecture)
    } catch let error as SystemError {
      throw ImageError(error)
    }
  }

  /// Imports while the caller holds the lock.
  private func importLocked(
    _ path: String, _ name: String?, _ architecture: String
  ) throws -> [Image] {
    for leftover in Disk.names(in: staging) { try Disk.removeTree("\(staging)/\(leftover)") }
    switch Disk.kind(path) {
    case .directory: return try importDirectory(path, name, architecture)
    case .file:
      let directory = staging + "/layout"
      try Disk.makeDirectories(directory, mode: 0o700)
      defer { try? Disk.removeTree(directory) }
      _ = try Self.unpack(path, into: directory)
      return try importDirectory(directory, name, architecture)
    default: throw ImageError(.notFound, "\(path): no such file or directory")
    }
  }

  private static func unpack(_ path: String, into directory: String) throws -> Digest {
    var unpacker = try LayerUnpacker(into: directory)
    return try unpacker.unpack(path)
  }

  private var staging: String { root + "/staging" }

  private func prepare() throws(SystemError) {
    try Disk.makeDirectories(root, mode: 0o700)
    for name in ["blobs/sha256", "layers", "staging"] {
      try Disk.makeDirectories("\(root)/\(name)", mode: 0o700)
    }
    if !Disk.exists(root + "/oci-layout") {
      try Disk.write(["imageLayoutVersion": "1.0.0"], to: root + "/oci-layout", mode: 0o644)
    }
  }

  private func importDirectory(
    _ source: String, _ name: String?, _ architecture: String
  ) throws -> [Image] {
    guard Disk.exists(source + "/index.json"), Disk.exists(source + "/oci-layout") else {
      throw ImageError(
        .corrupt, "\(source): not an OCI image layout (no index.json and oci-layout in it)")
    }
    func read(_ digest: Digest) throws -> Value {
      try document("\(source)/blobs/sha256/\(digest.hex)", digest: digest)
    }
    var candidates: [(descriptor: Value, name: String?)] = []
    for descriptor in try document(source + "/index.json")["manifests"].elements {
      try collect(
        descriptor, name: Self.name(of: descriptor), architecture, depth: 0, read, &candidates)
    }
    guard !candidates.isEmpty else {
      throw ImageError(.notFound, "\(source): no image for linux/\(architecture) in it")
    }
    if name != nil, candidates.count > 1 {
      throw ImageError(
        .invalidReference,
        "\(source) holds \(candidates.count) images: a name can't be given to all")
    }

    var images: [Image] = []
    var entries: [Value] = []
    for (descriptor, ownName) in candidates {
      guard let text = name ?? ownName else {
        throw ImageError(.invalidReference, "the image has no name: give it one with --name")
      }
      // A layout made for one repository holds the bare tag.
      if name == nil, ImageName(text)?.repository == "docker.io/library/latest" {
        throw ImageError(
          .invalidReference, "the image is named \"\(text)\" only: give it a name with --name")
      }
      guard let reference = ImageName(text) else {
        throw ImageError(.invalidReference, "couldn't parse image name \"\(text)\"")
      }
      guard let digest = Digest(descriptor["digest"].string ?? "") else {
        throw ImageError(.corrupt, "\(source)/index.json: a descriptor without a sha256 digest")
      }
      let image = try image(manifestDigest: digest, name: reference.description, read: read)
      let manifest = try read(digest)
      for blob in [descriptor, manifest["config"]] + manifest["layers"].elements {
        try copyBlob(blob, from: source)
      }
      for (layer, diffID) in zip(manifest["layers"].elements, image.layers) {
        try unpackLayer(layer, diffID)
      }
      images.append(image)
      entries.append([
        "mediaType": descriptor["mediaType"], "digest": descriptor["digest"],
        "size": descriptor["size"],
        "annotations": [
          Self.fullNameAnnotation: Value(reference.description),
          Self.nameAnnotation: Value(reference.description),
        ],
      ])
    }
    try publish(entries)
    return images
  }

  /// Finds the manifests for this machine behind a descriptor, which may be of an index.
  private func collect(
    _ descriptor: Value, name: String?, _ architecture: String, depth: Int,
    _ read: (Digest) throws -> Value, _ found: inout [(descriptor: Value, name: String?)]
  ) throws {
    guard found.count < Limits.manifests, depth < 4 else {
      throw ImageError(.refused, "the layout holds too many or too deeply nested manifests")
    }
    let platform = descriptor["platform"]
    if let wanted = platform["architecture"].string, wanted != architecture { return }
    if let system = platform["os"].string, system != "linux" { return }
    guard let digest = Digest(descriptor["digest"].string ?? "") else {
      throw ImageError(.corrupt, "a descriptor without a sha256 digest")
    }
    let type = descriptor["mediaType"].string ?? ""
    if type.hasSuffix("image.index.v1+json") || type.hasSuffix("manifest.list.v2+json") {
      for child in try read(digest)["manifests"].elements {
        try collect(
          child, name: name ?? Self.name(of: child), architecture, depth: depth + 1, read, &found)
      }
    } else if type.hasSuffix("image.manifest.v1+json") || type.hasSuffix("manifest.v2+json") {
      let configuration = try read(digest)["config"]
      // Attestations are manifests too, of no platform.
      guard let id = Digest(configuration["digest"].string ?? ""),
        let own = try? read(id), own["rootfs"]["diff_ids"].array != nil,
        own["architecture"].string ?? architecture == architecture
      else { return }
      found.append((descriptor, name))
    }
  }

  /// Copies a blob while verifying its size and digest.
  private func copyBlob(_ descriptor: Value, from source: String) throws {
    guard let digest = Digest(descriptor["digest"].string ?? "") else {
      throw ImageError(.corrupt, "a descriptor without a sha256 digest")
    }
    if Disk.exists(blobPath(digest)) { return }
    let path = "\(source)/blobs/sha256/\(digest.hex)"
    let temporary = "\(staging)/\(digest.hex)"
    var input = try FileSource(path)
    let output = try Descriptor(
      opening: temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode: 0o600)
    while true {
      let piece = try input.next()
      if piece.isEmpty { break }
      try output.writeAll(piece)
    }
    if let size = descriptor["size"].integer, size != input.count {
      throw ImageError(.corrupt, "\(path): \(input.count) bytes instead of \(size)")
    }
    guard input.digest == digest else {
      throw ImageError(.corrupt, "\(path): the content does not have its digest")
    }
    guard fdatasync(output.number) == 0 else { throw SystemError("sync", temporary) }
    guard rename(temporary, blobPath(digest)) == 0 else {
      throw SystemError("rename", temporary)
    }
  }

  private func unpackLayer(_ descriptor: Value, _ diffID: Digest) throws {
    guard let digest = Digest(descriptor["digest"].string ?? "") else {
      throw ImageError(.corrupt, "a layer without a sha256 digest")
    }
    if Disk.exists(layerPath(diffID)) { return }
    let temporary = "\(staging)/layer-\(diffID.hex)"
    try Disk.makeDirectories(temporary, mode: 0o755)
    do {
      let actual = try Self.unpack(blobPath(digest), into: temporary)
      guard actual == diffID else {
        throw ImageError(.corrupt, "layer \(digest) unpacks to \(actual) instead of \(diffID)")
      }
      sync(temporary)
      guard rename(temporary, layerPath(diffID)) == 0 else {
        throw SystemError("rename", temporary)
      }
    } catch {
      try? Disk.removeTree(temporary)
      throw error
    }
  }

  /// Makes a whole tree durable before its name appears: a layer with empty files after a power cut
  /// would otherwise pass for a good one.
  private func sync(_ path: String) {
    guard let directory = try? Descriptor(opening: path, O_RDONLY | O_DIRECTORY) else { return }
    _ = clinux_syncfs(directory.number)
  }

  /// Adds the entries to `index.json`; one of the same name replaces the old.
  private func publish(_ entries: [Value]) throws {
    let path = root + "/index.json"
    let names = Set(entries.compactMap { Self.name(of: $0) })
    var manifests: [Value] = []
    if Disk.exists(path) {
      manifests = try document(path)["manifests"].elements.filter {
        Self.name(of: $0).map { !names.contains($0) } ?? true
      }
    }
    let index: Value = [
      "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
      "manifests": .array(manifests + entries),
    ]
    try Disk.write(index.json, to: path, mode: 0o644, isDurable: true)
    if let directory = try? Descriptor(opening: root, O_RDONLY | O_DIRECTORY) {
      fsync(directory.number)
    }
  }
}
