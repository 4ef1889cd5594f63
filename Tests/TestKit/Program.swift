import Foundation

#if canImport(Glibc)
  import Glibc
#endif

/// An executable that tests start.
///
/// Output goes to files, so that no program ever waits for a test to read, and a test can look at what was
/// printed so far at any time.
public struct Program: Sendable {
  public let path: String

  public init(path: String) { self.path = path }

  /// Runs the program to its end.
  ///
  /// - Parameters:
  ///   - environment: variables added to those of the test.
  ///   - seconds: after which it is killed and an error thrown.
  public func run(
    _ arguments: [String], input: String = "", environment: [String: String] = [:],
    seconds: Double = 30
  ) throws -> Outcome {
    let running = try start(arguments, input: input, environment: environment)
    guard running.waitUntilExit(seconds: seconds) else {
      running.kill()
      throw ProgramError(
        "\(path) \(arguments.joined(separator: " ")) did not end in \(seconds) s; it printed:\n"
          + running.output + running.errors)
    }
    return Outcome(
      output: running.output, errors: running.errors, status: running.status ?? -1)
  }

  /// Starts the program and leaves it running.
  ///
  /// - Parameter directory: its working directory; nil for the test's own.
  public func start(
    _ arguments: [String], input: String = "", environment: [String: String] = [:],
    directory: String? = nil
  ) throws -> RunningProgram {
    try RunningProgram(
      path: path, arguments: arguments, input: input, environment: environment,
      directory: directory)
  }

  /// What a program left behind.
  public struct Outcome: Sendable {
    /// Standard output.
    public var output: String
    /// Standard error.
    public var errors: String
    /// The exit status, or the signal's number if one ended it.
    public var status: Int32
  }
}

/// A program that was started.
///
/// It is killed when the last reference goes away.
public final class RunningProgram {
  private let process = Process()
  private let folder = TestFolder()

  fileprivate init(
    path: String, arguments: [String], input: String, environment: [String: String],
    directory: String?
  ) throws {
    func file(_ name: String, _ text: String = "") throws -> FileHandle {
      let path = "\(folder.path)/\(name)"
      try text.write(toFile: path, atomically: false, encoding: .utf8)
      guard let handle = FileHandle(forUpdatingAtPath: path) else {
        throw ProgramError("cannot open \(path)")
      }
      return handle
    }
    process.executableURL = URL(fileURLWithPath: path)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    if let directory { process.currentDirectoryURL = URL(fileURLWithPath: directory) }
    let files = [try file("in", input), try file("out"), try file("err")]
    process.standardInput = files[0]
    process.standardOutput = files[1]
    process.standardError = files[2]
    defer { for file in files { try? file.close() } }
    // A child inherits the mask of the thread that starts it, and the threads that run tests block all
    // signals: without this, SIGTERM would never reach it.
    var none = sigset_t()
    var mask = sigset_t()
    sigemptyset(&none)
    pthread_sigmask(SIG_SETMASK, &none, &mask)
    defer { pthread_sigmask(SIG_SETMASK, &mask, nil) }
    try process.run()
  }

  deinit { kill() }

  public var processID: Int32 { process.processIdentifier }
  public var isRunning: Bool { process.isRunning }
  /// The exit status, or the signal's number if one ended it; nil while it runs.
  public var status: Int32? { process.isRunning ? nil : process.terminationStatus }
  /// Standard output so far.
  public var output: String { read("out") }
  /// Standard error so far.
  public var errors: String { read("err") }

  private func read(_ name: String) -> String {
    let data = FileManager.default.contents(atPath: "\(folder.path)/\(name)") ?? Data()
    return String(decoding: data, as: UTF8.self)
  }

  /// Waits for the end; false if it did not come in time.
  public func waitUntilExit(seconds: Double) -> Bool {
    waitUntil(seconds: seconds, every: 0.002) { !process.isRunning }
  }

  /// Sends a signal to this process alone.
  public func signal(_ signal: Int32) {
    if process.isRunning { _ = Glibc.kill(process.processIdentifier, signal) }
  }

  /// Ends it with SIGKILL and waits until it is gone.
  public func kill() {
    signal(SIGKILL)
    _ = waitUntilExit(seconds: 10)
  }
}

/// A program that could not be run or did not do as it should.
public struct ProgramError: Error, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}

/// A fresh folder that goes away with its last reference.
public final class TestFolder: Sendable {
  public let path: String

  public init() {
    path = NSTemporaryDirectory() + "martlet-test-\(UUID().uuidString)"
    try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// Asks again and again until the answer is true; false if the time ran out first.
public func waitUntil(
  seconds: Double, every interval: Double = 0.02, _ condition: () throws -> Bool
) rethrows -> Bool {
  let end = DispatchTime.now().uptimeNanoseconds + UInt64(seconds * 1e9)
  while true {
    if try condition() { return true }
    if DispatchTime.now().uptimeNanoseconds >= end { return false }
    usleep(UInt32(interval * 1e6))
  }
}
