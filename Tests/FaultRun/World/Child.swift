import Foundation
import Synchronization
import TestKit

#if canImport(Glibc)
  import Glibc
#endif

/// A program that was started.
///
/// By `posix_spawn` and `waitpid` alone: Foundation's `Process` doesn't hear of its children's ends where it is itself
/// the first process of a namespace.
final class Child: Sendable {
  let processID: pid_t
  private let outputPath: String
  private let errorsPath: String
  private let ended = Mutex<Int32?>(nil)

  /// - Parameter name: of the files that take what it prints, in `folder`.
  init(_ command: [String], input: String = "", folder: String, name: String) throws {
    let base = "\(folder)/\(name)-\(UUID().uuidString)"
    (outputPath, errorsPath) = ("\(base).out", "\(base).err")
    let inputPath = "\(base).in"
    try Data(input.utf8).write(to: URL(fileURLWithPath: inputPath))
    defer { unlink(inputPath) }
    var files = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&files)
    defer { posix_spawn_file_actions_destroy(&files) }
    posix_spawn_file_actions_addopen(&files, 0, inputPath, O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&files, 1, outputPath, O_WRONLY | O_CREAT, 0o600)
    posix_spawn_file_actions_addopen(&files, 2, errorsPath, O_WRONLY | O_CREAT, 0o600)
    // A child inherits the mask of the thread that starts it, which may block signals, and what is ignored.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    var all = sigset_t()
    sigemptyset(&none)
    sigfillset(&all)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &all)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
    var arguments: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) } + [nil]
    defer { for argument in arguments { free(argument) } }
    var id: pid_t = 0
    let code = posix_spawn(&id, command[0], &files, &attributes, &arguments, environ)
    guard code == 0 else { throw ProgramError("\(command[0]): \(String(cString: strerror(code)))") }
    processID = id
  }

  deinit {
    kill()
    unlink(outputPath)
    unlink(errorsPath)
  }

  /// The exit status, or 128 and the signal's number if one ended it; nil while it runs.
  var status: Int32? {
    ended.withLock { ended in
      if let ended { return ended }
      var code: Int32 = 0
      guard waitpid(processID, &code, WNOHANG) == processID else { return nil }
      ended = code & 0x7F == 0 ? code >> 8 & 0xFF : 128 + code & 0x7F
      return ended
    }
  }

  var isRunning: Bool { status == nil }
  var output: String { Self.read(outputPath) }
  var errors: String { Self.read(errorsPath) }

  private static func read(_ path: String) -> String {
    String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
  }

  /// Waits for the end; false if it did not come in time.
  func waitUntilExit(seconds: Double) -> Bool {
    waitUntil(seconds: seconds, every: 0.002) { !isRunning }
  }

  func signal(_ signal: Int32) { if isRunning { _ = Glibc.kill(processID, signal) } }

  /// Ends it with SIGKILL and waits until it is gone.
  func kill() {
    signal(SIGKILL)
    _ = waitUntilExit(seconds: 10)
  }
}
