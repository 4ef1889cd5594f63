import CLinux
import Foundation
import KubeAPI
import Testing

@testable import NodeAgent

@Suite("Image names") struct ImageNameTests {
  @Test(arguments: [
    ("busybox", "docker.io/library/busybox:latest"),
    ("busybox:1.36", "docker.io/library/busybox:1.36"),
    ("me/app", "docker.io/me/app:latest"),
    ("localhost/app", "localhost/app:latest"),
    ("registry:5000/a/b-c__d:V1", "registry:5000/a/b-c__d:V1"),
    ("quay.io/x/y", "quay.io/x/y:latest"),
    ("index.docker.io/library/x", "docker.io/library/x:latest"),
  ])
  func normalised(text: String, expected: String) {
    #expect(ImageName(text)?.description == expected)
  }

  @Test func `a digest needs no tag`() {
    let digest = "sha256:" + String(repeating: "a", count: 64)
    #expect(ImageName("busybox@" + digest)?.description == "docker.io/library/busybox@" + digest)
    #expect(ImageName("busybox:1@" + digest)?.tag == "1")
  }

  @Test(arguments: [
    "", "Busybox", "a//b", "a/", "/a", "a:", "a:-x", "-a", "a-", "a..b", "a___b", "a b",
    "a@sha256:12",
    "a@md5:00", "host:port/a", String(repeating: "a/", count: 600) + "a",
  ])
  func malformed(text: String) { #expect(ImageName(text) == nil) }
}

/// A tar archive, written entry by entry; only what the tests need.
struct Archive {
  var bytes: [UInt8] = []

  mutating func add(
    _ path: String, type: Character = "0", target: String = "", content: [UInt8] = [],
    size: Int? = nil, mode: Int = 0o644
  ) {
    var header = [UInt8](repeating: 0, count: 512)
    func put(_ text: String, at offset: Int) {
      for (index, byte) in text.utf8.enumerated() { header[offset + index] = byte }
    }
    func octal(_ number: Int, _ width: Int) -> String {
      let text = String(number, radix: 8)
      return String(repeating: "0", count: width - 1 - text.count) + text
    }
    put(String(path.prefix(100)), at: 0)
    put(octal(mode, 8), at: 100)
    put(octal(0, 8), at: 108)
    put(octal(0, 8), at: 116)
    put(octal(size ?? content.count, 12), at: 124)
    put(octal(1, 12), at: 136)
    put("        ", at: 148)
    put(String(type), at: 156)
    put(target, at: 157)
    put("ustar", at: 257)
    put("00", at: 263)
    put(octal(header.reduce(0) { $0 + Int($1) }, 7), at: 148)
    bytes += header + content
    while bytes.count % 512 != 0 { bytes.append(0) }
  }

  mutating func finish() { bytes += [UInt8](repeating: 0, count: 1024) }
}

@Suite(
  "Layers", .enabled(if: geteuid() == 0, "unpacking keeps owners and makes devices: needs root"))
struct LayerTests {
  /// Unpacks into a fresh directory, beside which nothing else lies.
  private func unpack(
    _ archive: Archive, _ check: (String) throws -> Void = { _ in }
  ) throws {
    let root = NSTemporaryDirectory() + "martlet-layer-\(UUID().uuidString)"
    try Disk.makeDirectories(root + "/layer")
    defer { try? Disk.removeTree(root) }
    try Disk.write(archive.bytes, to: root + "/layer.tar")
    var unpacker = try LayerUnpacker(into: root + "/layer")
    let digest: Digest
    do {
      digest = try unpacker.unpack(root + "/layer.tar")
    } catch {
      #expect(Disk.names(in: root) == ["layer", "layer.tar"])
      throw error
    }
    #expect(digest == Digest(of: archive.bytes))
    #expect(Disk.names(in: root) == ["layer", "layer.tar"])
    try check(root + "/layer")
  }

  private func content(_ path: String) throws -> [UInt8] { try Disk.read(path) }

  @Test func `files, links and directories`() throws {
    var archive = Archive()
    archive.add("./", type: "5", mode: 0o755)
    archive.add("etc/motd", content: Array("hello".utf8))
    archive.add("etc/link", type: "2", target: "motd")
    archive.add("etc/again", type: "1", target: "etc/motd")
    archive.add("bin/tool", content: [1, 2, 3], mode: 0o4755)
    archive.finish()
    try unpack(archive) { (root: String) throws in
      #expect(try content(root + "/etc/link") == Array("hello".utf8))
      #expect(try content(root + "/etc/again") == Array("hello".utf8))
      var info = stat()
      stat(root + "/bin/tool", &info)
      #expect(info.st_mode & 0o7777 == 0o4755)
    }
  }

  @Test func `whiteouts become overlayfs marks`() throws {
    var archive = Archive()
    archive.add("a/.wh.gone")
    archive.add("b/.wh..wh..opq")
    archive.add("b/kept")
    archive.finish()
    try unpack(archive) { (root: String) throws in
      var info = stat()
      #expect(lstat(root + "/a/gone", &info) == 0)
      #expect(info.st_mode & S_IFMT == S_IFCHR)
      #expect(info.st_rdev == 0)
      #expect(clinux_is_opaque(root + "/b") == 1)
      #expect(clinux_is_opaque(root + "/a") == 0)
    }
  }

  @Test(arguments: ["../escape", "/etc/passwd", "a/../../escape", "a/b/../../../escape"])
  func `a path that leaves the layer is refused`(path: String) throws {
    var archive = Archive()
    archive.add("a/b/c")
    archive.add(path, content: [0])
    archive.finish()
    #expect(throws: ImageError.self) { try unpack(archive) }
  }

  @Test func `a link out of the layer leads back into it`() throws {
    var archive = Archive()
    archive.add("out", type: "2", target: "../..")
    archive.add("out/escape", content: [1])
    archive.add("abs", type: "2", target: "/etc")
    archive.add("etc/inside", content: [2])
    archive.add("abs/passwd", content: [3])
    archive.finish()
    try unpack(archive) { (root: String) throws in
      #expect(try content(root + "/escape") == [1])
      #expect(try content(root + "/etc/passwd") == [3])
    }
  }

  @Test func `a hard link to the outside is refused`() throws {
    var archive = Archive()
    archive.add("x", type: "1", target: "../../etc/passwd")
    archive.finish()
    #expect(throws: ImageError.self) { try unpack(archive) }
  }

  @Test func `every truncation is an error or harmless, never a trap`() throws {
    var archive = Archive()
    archive.add("a/b", content: Array("0123456789".utf8))
    archive.add("pax", type: "x", content: Array("12 path=zzz\n".utf8))
    archive.add("c", content: [1])
    archive.finish()
    for count in stride(from: 0, to: archive.bytes.count, by: 17) {
      var cut = archive
      cut.bytes.removeLast(archive.bytes.count - count)
      do { try unpack(cut) } catch is ImageError {}
    }
  }

  @Test func `damaged headers are errors, never traps`() throws {
    var archive = Archive()
    archive.add("a/b", content: Array("0123456789".utf8))
    archive.finish()
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<300 {
      var damaged = archive
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        damaged.bytes[Int.random(in: 0..<512, using: &generator)] = .random(in: 0...255)
      }
      // With a right checksum, so that the fields themselves are read.
      var sum = 0
      for (index, byte) in damaged.bytes[..<512].enumerated() {
        sum += (148..<156).contains(index) ? 32 : Int(byte)
      }
      let text = String(sum, radix: 8)
      let field = String(repeating: "0", count: 6 - text.count) + text + "\0 "
      damaged.bytes.replaceSubrange(148..<156, with: Array(field.utf8))
      do { try unpack(damaged) } catch is ImageError {}
    }
  }

  @Test(arguments: [
    "9999999999999999999999 path=x\n", "3 a\n", "0 path=x\n", "12 path=zz", " path=x\n",
    "14 size=9e99\n", "30 size=9223372036854775807\n",
  ])
  func `malformed pax records are errors`(record: String) throws {
    var archive = Archive()
    archive.add("pax", type: "x", content: Array(record.utf8))
    archive.add("c", content: [1])
    archive.finish()
    #expect(throws: ImageError.self) { try unpack(archive) }
  }
}

@Suite("Image store", .enabled(if: runtimeObstacle == nil, "needs root and busybox-static"))
struct ImageStoreTests {
  private func withStore(_ body: (ImageStore, String) throws -> Void) throws {
    let root = NSTemporaryDirectory() + "martlet-store-\(UUID().uuidString)"
    defer { try? Disk.removeTree(root) }
    // A copy, for tests that damage it.
    let layout = root + "/layout"
    try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
    try FileManager.default.copyItem(atPath: RuntimeFixture.busyboxLayout, toPath: layout)
    try body(ImageStore(root: root + "/store"), layout)
  }

  @Test func `an import is found by every spelling`() throws {
    try withStore { store, layout in
      #expect(try store.find("busybox") == nil)
      let image = try #require(try store.importLayout(layout).first)
      #expect(image.names == ["docker.io/library/busybox:latest"])
      for name in [
        "busybox", "docker.io/busybox:latest", "library/busybox", image.id.description,
        "busybox@\(image.manifest)",
      ] {
        #expect(try store.find(name)?.id == image.id, "\(name)")
      }
      #expect(try store.find("busybox:1") == nil)
      #expect(image.configuration.command == ["sh"])
      // Again: the same.
      #expect(try store.importLayout(layout).first?.id == image.id)
      #expect(try store.list().count == 1)
      #expect(
        try store.importLayout(layout, name: "tools:v1").first?.names == [
          "docker.io/library/tools:v1"
        ])
      #expect(try store.list().first?.names.count == 2)
    }
  }

  @Test func `an archive imports as its directory does`() throws {
    try withStore { store, layout in
      let archive = layout + ".tar.gz"
      let tar = Process()
      tar.executableURL = URL(fileURLWithPath: "/bin/tar")
      tar.arguments = ["czf", archive, "-C", layout, "."]
      try tar.run()
      tar.waitUntilExit()
      #expect(try store.importLayout(archive).count == 1)
    }
  }

  @Test func `damage anywhere is found, and nothing is imported`() throws {
    try withStore { store, layout in
      let blobs = layout + "/blobs/sha256"
      for name in Disk.names(in: blobs) {
        let path = "\(blobs)/\(name)"
        let good = try Disk.read(path)
        var bad = good
        bad[bad.count / 2] ^= 1
        try Disk.write(bad, to: path)
        #expect(throws: ImageError.self, "\(name)") { try store.importLayout(layout) }
        #expect(try store.list().isEmpty)
        try Disk.write(good, to: path)
      }
      #expect(try store.importLayout(layout).count == 1)
    }
  }
}
