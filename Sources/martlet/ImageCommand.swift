import ArgumentParser
import NodeAgent

/// `martlet image`: the images of a node.
struct ImageCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "image",
    abstract: "Import and list the images that a node can run.",
    discussion: """
      A node has its own store of images, an OCI image layout in DATA-DIR/images. What is imported there
      can be run at once, whether or not the agent is running.

        Scripts/make-busybox-image ./busybox
        martlet image import ./busybox --data-dir martlet-node
        martlet image list --data-dir martlet-node
      """,
    subcommands: [Import.self, List.self])

  /// Where the store is.
  struct Location: ParsableArguments {
    @Option(help: "The node's directory.")
    var dataDir = "martlet-node"

    @Option(help: "Directory of the image store (default: DATA-DIR/images).")
    var imageDir: String?

    var store: ImageStore {
      ImageStore(
        root: imageDir.map(NodeFiles.absolute) ?? NodeFiles.absolute(dataDir) + "/images")
    }
  }

  struct Import: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Import an OCI image layout: a directory, or a tar archive of one.",
      discussion: """
        Archives are what 'docker save', 'podman save --format oci-archive', 'skopeo copy … oci-archive:'
        and 'docker buildx build --output type=oci' write. Every digest is verified, and every layer
        unpacked, before the image gets its name.
        """)

    @OptionGroup var location: Location

    @Option(help: "Name for the image, if the layout has none or another one is wanted.")
    var name: String?

    @Argument(help: "The layout's directory or archive.")
    var path: String

    func run() throws {
      do {
        for image in try location.store.importLayout(path, name: name) {
          print("\(image.names.joined(separator: ", ")) \(image.id)")
        }
      } catch {
        throw StartFailure("\(error)")
      }
    }
  }

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List the images of a node.")

    @OptionGroup var location: Location

    func run() throws {
      let images: [Image]
      do {
        images = try location.store.list()
      } catch {
        throw StartFailure("\(error)")
      }
      var rows = [("NAME", "IMAGE ID", "SIZE")]
      for image in images {
        let size = "\((image.size + 999) / 1000) kB"
        for name in image.names { rows.append((name, String(image.id.hex.prefix(12)), size)) }
      }
      let width = rows.map(\.0.count).max() ?? 0
      for (name, id, size) in rows {
        print(
          name + String(repeating: " ", count: width - name.count + 3) + id
            + String(repeating: " ", count: 15 - id.count) + size)
      }
    }
  }
}
