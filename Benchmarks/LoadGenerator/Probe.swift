import ArgumentParser
import Foundation
import Glibc
import Histogram

/// The least that a replicated, durable put can cost on a machine: three bare processes that pass bytes on.
///
/// A client sends 300 bytes to a leader, which passes them to a follower; both append them to a file and sync it
/// (the leader meanwhile), the follower answers, the leader answers. No protocol, no store, blocking calls. A
/// store's latency for a lone client can be judged beside it.
struct Probe: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measures the bare chain client, leader, follower, with a sync on both.")

  @Option(name: .long, help: "A folder on the disk that the syncs shall reach.")
  var directory = "."

  @Option(name: .long, help: "Seconds to run.")
  var duration = 5.0

  @Option(name: .long, help: "Bytes passed on and synced for each request.")
  var size = 300

  @Option(name: .long, help: "Also write the result as JSON to this file.")
  var json: String?

  @Option(name: .long, help: .hidden)
  var role = "client"

  func validate() throws {
    if !(1...65_536).contains(size) { throw ValidationError("--size is 1 to 65,536") }
    if !(duration > 0 && duration < 1e6) { throw ValidationError("--duration is positive") }
  }

  func run() throws {
    switch role {
    case "follower": try serve(next: nil)
    case "leader": try serve(next: Self.start("follower", directory: directory, size: size))
    default: try measure()
    }
  }

  /// The client.
  private func measure() throws {
    let leader = try Self.start("leader", directory: directory, size: size)
    let request = [UInt8](repeating: 0x2A, count: size)
    var recorder = Recorder()
    let end = monotonicNanoseconds() + UInt64(duration * 1e9)
    var now = monotonicNanoseconds()
    while now < end {
      try leader.send(request)
      _ = try leader.receive(1)
      let answered = monotonicNanoseconds()
      recorder.record(nanoseconds: answered - now)
      now = answered
    }
    let latencies = recorder.latencies
    let result = Result(
      requests: recorder.completed, p50: Double(latencies.valueAtPercentile(50)) / 1e6,
      p99: Double(latencies.valueAtPercentile(99)) / 1e6)
    print(String(format: "%d requests, p50 %.3f ms, p99 %.3f ms", result.requests, result.p50, result.p99))
    if let json { try JSONEncoder().encode(result).write(to: URL(fileURLWithPath: json)) }
  }

  /// Milliseconds.
  private struct Result: Codable {
    var requests: UInt64
    var p50: Double
    var p99: Double
  }

  /// A leader or a follower: serves the one who started it, until that one goes away.
  private func serve(next: Pipe?) throws {
    // The starter reads the port that is listened on.
    let listener = try Pipe.listening()
    print(listener.port)
    fflush(nil)
    let client = try listener.socket.accept()
    let file = try AppendedFile(path: "\(directory)/probe-\(role)", chunk: size)
    while let bytes = try? client.receive(size) {
      try next?.send(bytes)
      try file.appendAndSync(bytes)
      _ = try next?.receive(1)
      try client.send([1])
    }
  }

  /// Starts this program in another role and connects to it.
  private static func start(_ role: String, directory: String, size: Int) throws -> Pipe {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    process.arguments = ["probe", "--role", role, "--directory", directory, "--size", "\(size)"]
    let output = Foundation.Pipe()
    process.standardOutput = output
    try process.run()
    let line = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
    guard let port = UInt16(line.trimmingCharacters(in: .whitespacesAndNewlines)) else {
      throw GeneratorError("the probe's \(role) did not start")
    }
    return try Pipe.connected(to: port)
  }
}

extension Probe {
  /// A blocking TCP socket on the loopback interface.
  struct Pipe {
    let descriptor: Int32

    static func listening() throws -> (socket: Pipe, port: UInt16) {
      let pipe = try Pipe(descriptor: check(socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0), "socket"))
      var address = loopback(port: 0)
      var length = socklen_t(MemoryLayout<sockaddr_in>.size)
      try withUnsafeMutablePointer(to: &address) { pointer in
        try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          _ = try check(bind(pipe.descriptor, $0, length), "bind")
          _ = try check(listen(pipe.descriptor, 1), "listen")
          _ = try check(getsockname(pipe.descriptor, $0, &length), "getsockname")
        }
      }
      return (pipe, UInt16(bigEndian: address.sin_port))
    }

    static func connected(to port: UInt16) throws -> Pipe {
      let pipe = try Pipe(descriptor: check(socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0), "socket"))
      var address = loopback(port: port)
      try withUnsafeMutablePointer(to: &address) { pointer in
        try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          _ = try check(
            connect(pipe.descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)), "connect")
        }
      }
      pipe.sendAtOnce()
      return pipe
    }

    func accept() throws -> Pipe {
      let pipe = try Pipe(descriptor: check(Glibc.accept(descriptor, nil, nil), "accept"))
      pipe.sendAtOnce()
      return pipe
    }

    private func sendAtOnce() {
      var on: Int32 = 1
      setsockopt(
        descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    }

    private static func loopback(port: UInt16) -> sockaddr_in {
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = port.bigEndian
      address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
      return address
    }

    func send(_ bytes: [UInt8]) throws {
      var sent = 0
      while sent < bytes.count {
        sent += try bytes.withUnsafeBytes {
          try check(
            Glibc.send(descriptor, $0.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL)),
            "send")
        }
      }
    }

    func receive(_ count: Int) throws -> [UInt8] {
      var bytes = [UInt8](repeating: 0, count: count)
      var received = 0
      while received < count {
        let step = try bytes.withUnsafeMutableBytes {
          try check(recv(descriptor, $0.baseAddress! + received, count - received, 0), "receive")
        }
        if step == 0 { throw GeneratorError("the other side of the probe went away") }
        received += step
      }
      return bytes
    }
  }

  /// A file with room made beforehand, as a log has it, so that a sync writes data and no metadata.
  private final class AppendedFile {
    private let descriptor: Int32
    private let path: String
    private var offset = 0

    init(path: String, chunk: Int) throws {
      self.path = path
      descriptor = try check(open(path, O_RDWR | O_CREAT | O_TRUNC, 0o600), "open \(path)")
      let zeros = [UInt8](repeating: 0, count: 1 << 20)
      for part in 0..<Self.room {
        _ = try zeros.withUnsafeBytes {
          try check(pwrite(descriptor, $0.baseAddress, $0.count, off_t(part << 20)), "write \(path)")
        }
      }
      _ = try check(fsync(descriptor), "sync \(path)")
    }

    /// MiB.
    private static let room = 16

    func appendAndSync(_ bytes: [UInt8]) throws {
      if offset + bytes.count > Self.room << 20 { offset = 0 }
      _ = try bytes.withUnsafeBytes {
        try check(pwrite(descriptor, $0.baseAddress, $0.count, off_t(offset)), "write \(path)")
      }
      _ = try check(fdatasync(descriptor), "sync \(path)")
      offset += bytes.count
    }

    deinit {
      close(descriptor)
      unlink(path)
    }
  }
}

/// A system call's result; its error thrown.
private func check<Result: SignedInteger>(_ result: Result, _ what: String) throws -> Result {
  if result < 0 { throw GeneratorError("\(what): \(String(cString: strerror(errno)))") }
  return result
}
