import Foundation
import Testing

@testable import NodeAgent

@Suite("Pod network") struct NetworkTests {
  @Test(.enabled(if: runtimeObstacle == nil, "needs root, crun and busybox"))
  func `pods reach each other, and the node reaches them`() throws {
    let root = NSTemporaryDirectory() + "martlet-network-\(UUID().uuidString)"
    _ = try ImageStore(root: root + "/images").importLayout(RuntimeFixture.busyboxLayout)
    defer { try? Disk.removeTree(root) }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/unshare")
    process.arguments = [
      "--net", "--mount", "--propagation", "private", RuntimeFixture.shimPath, "--network", root,
    ]
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(
      text == """
        server 10.99.0.2
        client 10.99.0.3
        pod to pod: exit 7
        node to pod: true
        third 10.99.0.4
        links left: []

        """)
  }

  @Test func `addresses rest before they are given again`() throws {
    let block = try #require(IPv4Block("10.0.0.0/29"))
    let network = PodNetwork(.init(block: block, bridge: "unused"))
    #expect(network.gateway.description == "10.0.0.1")
    let all = try (0..<5).map { _ in try network.allocate().description }
    #expect(all == (2...6).map { "10.0.0.\($0)" })
    #expect(throws: RuntimeError.self) { try network.allocate() }
    network.release(try #require(IPv4Address("10.0.0.4")))
    network.release(try #require(IPv4Address("10.0.0.2")))
    #expect(try network.allocate().description == "10.0.0.2")
    #expect(try network.allocate().description == "10.0.0.4")
  }

  @Test(arguments: [
    "10.0.0.0", "10.0.0.0/33", "10.0.0.1/24", "10.0.0.0/-1", "a/8", "10.0.0/24", "1.2.3.04/32", "",
  ])
  func `malformed blocks are refused`(text: String) { #expect(IPv4Block(text) == nil) }

  @Test func `blocks`() {
    #expect(IPv4Block("0.0.0.0/0")?.count == 1 << 32)
    #expect(IPv4Block("255.255.255.255/32")?.contains(IPv4Address("255.255.255.255")!) == true)
    #expect(IPv4Block("10.1.0.0/16")?.contains(IPv4Address("10.2.0.0")!) == false)
  }
}
