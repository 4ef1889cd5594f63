import CLinux
import Dispatch
import Glibc

/// Runs `nft -f -`.
public enum NftCommand {
  public struct Failure: Error, CustomStringConvertible {
    public var description: String
  }

  /// How long nft may take: thousands of services take a quarter of a second.
  private static let timeoutMilliseconds: Int32 = 60_000
  /// The part of its complaints that is told.
  private static let complaintBytes = 4_096

  /// Hands a program to the kernel, as a whole or not at all.
  ///
  /// - Throws: ``Failure`` with nft's words.
  public static func run(_ script: String) async throws {
    try await withCheckedThrowingContinuation {
      (continuation: CheckedContinuation<Void, any Error>) in
      // It blocks, and must not block those that serve others.
      DispatchQueue.global().async {
        continuation.resume(with: Result { try runBlocking(script) })
      }
    }
  }

  /// The path of nft; nil if it isn't installed.
  public static let path: String? = {
    let places = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft"]
    return places.first { access($0, X_OK) == 0 }
  }()

  private static func runBlocking(_ script: String) throws {
    guard let path else { throw Failure(description: "nft is not installed: apt-get install nftables") }
    var input: [Int32] = [-1, -1]
    var output: [Int32] = [-1, -1]
    guard clinux_pipe_for_input(&input) == 0 else { throw Failure(description: "no pipe") }
    guard clinux_pipe(&output) == 0 else {
      close(input[0])
      close(input[1])
      throw Failure(description: "no pipe")
    }
    defer { for descriptor in [input[1], output[0]] where descriptor >= 0 { close(descriptor) } }
    let arguments: [String] = [path, "-f", "-"]
    var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    var none: [UnsafeMutablePointer<CChar>?] = [nil]
    defer { for word in words { free(word) } }
    var pid: pid_t = 0
    let outcome = words.withUnsafeMutableBufferPointer { words in
      none.withUnsafeMutableBufferPointer { none in
        path.withCString { path in
          var request = clinux_spawn_request()
          request.path = path
          request.arguments = UnsafePointer(words.baseAddress!)
          request.environment = UnsafePointer(none.baseAddress!)
          request.input = input[0]
          request.output = -1
          request.error = output[1]
          request.mount_namespace = -1
          request.network_namespace = -1
          return clinux_spawn(&request, &pid)
        }
      }
    }
    close(input[0])
    close(output[1])
    guard outcome == 0 else {
      throw Failure(description: "nft can't be started: \(String(cString: strerror(-outcome)))")
    }
    let complaint = feed(Array(script.utf8), &input[1], output[0])
    var status: Int32 = 0
    while waitpid(pid, &status, 0) < 0, errno == EINTR {}
    guard status == 0 else {
      throw Failure(description: complaint.isEmpty ? "nft ended with status \(status)" : complaint)
    }
  }

  /// Writes the program and reads complaints at the same time, so that neither side waits for the other.
  private static func feed(_ script: [UInt8], _ input: inout Int32, _ output: Int32) -> String {
    var rest = script[...]
    var complaint: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4_096)
    while true {
      var polls = [
        pollfd(fd: output, events: Int16(POLLIN), revents: 0),
        pollfd(fd: input, events: Int16(POLLOUT), revents: 0),
      ]
      guard poll(&polls, input >= 0 ? 2 : 1, timeoutMilliseconds) > 0 else { break }
      if input >= 0, polls[1].revents != 0 {
        let count = rest.withUnsafeBytes { write(input, $0.baseAddress, $0.count) }
        if count > 0 { rest = rest.dropFirst(count) }
        if rest.isEmpty || count < 0 && errno != EAGAIN {
          close(input)
          input = -1
        }
      }
      if polls[0].revents != 0 {
        let count = read(output, &buffer, buffer.count)
        if count == 0 || count < 0 && errno != EAGAIN { break }
        if count > 0, complaint.count < complaintBytes { complaint += buffer[..<count] }
      }
    }
    return String(decoding: complaint, as: UTF8.self)
  }
}
