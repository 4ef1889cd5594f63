import Glibc
import KubeAPI

/// The node's images: an OCI image layout with the layers unpacked beside it.
///
/// ```
/// ROOT/oci-layout, index.json      the OCI image layout, readable by any tool that knows the format
///      blobs/sha256/HEX            manifests, configurations and compressed layers
///      layers/HEX/                 unpacked layers, named by their diff_id
///      staging/                    what is being written; emptied when the store is opened to write
///      lock                        held by writers
/// ```
///
/// A blob appears under its name only once its content has that digest, a layer only once it is unpacked
/// whole and its uncompressed digest is the diff_id; `index.json` is replaced last, in one step. So a
/// reader, which takes no lock, never sees an image that is not complete, and a crash at any moment
/// leaves at most unused files, never a wrong image. Blobs and layers are shared between images.
///
/// All of it blocks on the disk: call it from a thread that may.
public struct ImageStore: Sendable {
  public let root: String

  enum Limits {
    /// The largest index, manifest or configuration, in bytes.
    static let documentBytes: Int64 = 4 << 20
    /// More than Docker's own limit of 127 helps nobody, and overlayfs takes its layers' names in one
    /// page: `Shim` mounts by names relative to the layers' directory, 65 bytes each.
    static let layers = 56
    /// Images in one layout to import.
    static let manifests = 128
  }

  static let nameAnnotation = "org.opencontainers.image.ref.name"
  static let fullNameAnnotation = "io.containerd.image.name"

  public init(root: String) { self.root = root }

  var layersDirectory: String { root + "/layers" }
  func blobPath(_ digest: Digest) -> String { "\(root)/blobs/sha256/\(digest.hex)" }
  func layerPath(_ digest: Digest) -> String { "\(layersDirectory)/\(digest.hex)" }

  // MARK: Reading

  /// All images, in the order of their names.
  public func list() throws -> [Image] {
    var images: [Digest: Image] = [:]
    for descriptor in try descriptors() {
      var image = try load(descriptor)
      if let known = images[image.id] {
        image.names = Array(Set(known.names + image.names)).sorted()
      }
      images[image.id] = image
    }
    return images.values.sorted {
      ($0.names.first ?? "", $0.id.hex) < ($1.names.first ?? "", $1.id.hex)
    }
  }

  /// The image of a reference in any spelling, an image id, or nil if the store has none.
  public func find(_ reference: String) throws -> Image? {
    if let id = Digest(reference) {
      return try list().first { $0.id == id || $0.manifest == id }
    }
    guard let wanted = ImageName(reference) else {
      throw ImageError(.invalidReference, "couldn't parse image name \"\(reference)\"")
    }
    for descriptor in try descriptors() {
      guard let name = Self.name(of: descriptor), let known = ImageName(name) else { continue }
      let matches: Bool
      if let digest = wanted.digest {
        matches =
          known.repository == wanted.repository && descriptor["digest"].string == digest.description
      } else {
        matches = known.repository == wanted.repository && known.tag == wanted.tag
      }
      if matches { return try load(descriptor) }
    }
    return nil
  }

  /// The members of our `index.json`; none before the first import.
  private func descriptors() throws -> [Value] {
    guard Disk.exists(root + "/index.json") else { return [] }
    return try document(root + "/index.json")["manifests"].elements
  }

  static func name(of descriptor: Value) -> String? {
    let annotations = descriptor["annotations"]
    return annotations[fullNameAnnotation].string ?? annotations[nameAnnotation].string
  }

  /// Reads the manifest and configuration of one of our own descriptors.
  private func load(_ descriptor: Value) throws -> Image {
    guard let digest = Digest(descriptor["digest"].string ?? "") else {
      throw ImageError(.corrupt, "\(root)/index.json: a descriptor without a sha256 digest")
    }
    return try image(
      manifestDigest: digest, name: Self.name(of: descriptor),
      read: { try document(blobPath($0), digest: $0) })
  }

  /// Assembles an image from its manifest and configuration.
  func image(
    manifestDigest: Digest, name: String?, read: (Digest) throws -> Value
  ) throws -> Image {
    let manifest = try read(manifestDigest)
    let configurationDescriptor = manifest["config"]
    guard let id = Digest(configurationDescriptor["digest"].string ?? "") else {
      throw ImageError(.corrupt, "manifest \(manifestDigest): no configuration")
    }
    let configuration = try read(id)
    let layers = configuration["rootfs"]["diff_ids"].strings
    let digests = layers.compactMap { Digest($0) }
    let compressed = manifest["layers"].elements
    guard digests.count == layers.count, digests.count == compressed.count else {
      throw ImageError(
        .corrupt, "image \(id): its layers and its configuration's diff_ids don't agree")
    }
    guard digests.count <= Limits.layers else {
      throw ImageError(.refused, "image \(id): more than \(Limits.layers) layers")
    }
    return Image(
      id: id, manifest: manifestDigest, names: name.map { [$0] } ?? [], layers: digests,
      size: compressed.reduce(configurationDescriptor["size"].integer ?? 0) {
        $0.addingReportingOverflow(max(0, $1["size"].integer ?? 0)).partialValue
      },
      configuration: Image.Configuration(configuration["config"]))
  }

  /// Reads a JSON document, and checks that it is what its digest says.
  func document(_ path: String, digest: Digest? = nil) throws -> Value {
    do {
      let bytes = try Disk.read(path, limit: Int(Limits.documentBytes))
      if let digest, Digest(of: bytes) != digest {
        throw ImageError(.corrupt, "\(path): the content does not have its digest")
      }
      return try Value(json: bytes)
    } catch let error as SystemError {
      throw ImageError(error)
    } catch let error as JSONError {
      throw ImageError(.corrupt, "\(path): \(error)")
    }
  }
}
