import CLinux
import Glibc
import HTTPServer
import Synchronization

/// A program to be run in a container that runs already.
public struct ExecRequest: Sendable, Equatable {
  public var command: [String]
  /// With a terminal, output and errors are one stream.
  public var hasTerminal = false
  public var hasInput = false
  public var hasOutput = true
  public var hasError = true

  public init(_ command: [String]) { self.command = command }
}

/// How a program that was run in a container ended.
public enum ExecEnd: Sendable, Equatable {
  case exited(Int32)
  /// It could not be started: the runtime's words.
  case failed(String)
}

/// A program that runs in a container beside its own, and the ends of its streams.
public final class ExecSession: Sendable {
  public let input: ByteStream?
  public let output: ByteStream?
  /// Nil with a terminal.
  public let error: ByteStream?
  /// The terminal's own descriptor; -1 without one.
  private let terminal: Mutex<Int32>
  private let end: Task<ExecEnd, Never>
  private let onKill: @Sendable () -> Void

  init(
    input: ByteStream?, output: ByteStream?, error: ByteStream?, terminal: Int32,
    end: Task<ExecEnd, Never>, onKill: @escaping @Sendable () -> Void
  ) {
    self.input = input
    self.output = output
    self.error = error
    self.terminal = Mutex(terminal)
    self.end = end
    self.onKill = onKill
  }

  deinit { close() }

  public func waitForEnd() async -> ExecEnd { await end.value }

  /// Tells the program how large its terminal is, in characters.
  public func resize(columns: UInt16, rows: UInt16) {
    terminal.withLock { if $0 >= 0 { _ = clinux_set_window_size($0, columns, rows) } }
  }

  /// Ends the program, if it still runs.
  public func kill() { onKill() }

  /// Closes this side of the streams.
  public func close() {
    input?.close()
    output?.close()
    error?.close()
    terminal.withLock { descriptor in
      if descriptor >= 0 { Glibc.close(descriptor) }
      descriptor = -1
    }
  }
}

/// A program took longer than it may.
struct ExecTimeout: Error {}

extension ContainerRuntime {
  /// Runs a program in a container and collects what it prints.
  ///
  /// - Parameter outputLimit: bytes that are kept; the rest is read and dropped.
  /// - Throws: ``ExecTimeout``, and what ``execute(_:_:)`` throws.
  func run(
    _ command: [String], in id: ContainerID, timeout: Duration, outputLimit: Int
  ) async throws -> (end: ExecEnd, output: [UInt8]) {
    let session = try await execute(id, ExecRequest(command))
    let output = OutputCollector(limit: outputLimit)
    return try await withThrowingTaskGroup(of: ExecEnd?.self) { group in
      for stream in [session.output, session.error].compactMap(\.self) {
        group.addTask {
          while let piece = try? await stream.read() { output.add(piece) }
          return nil
        }
      }
      group.addTask { await session.waitForEnd() }
      group.addTask {
        try await Task.sleep(for: timeout)
        throw ExecTimeout()
      }
      defer {
        group.cancelAll()
        session.close()
      }
      do {
        while let result = try await group.next() {
          guard let end = result else { continue }
          // What it printed last may still be on its way; what others in the container keep open is not
          // waited for.
          for _ in 0..<20 where !session.isDrained { try? await Task.sleep(for: .milliseconds(5)) }
          return (end, output.bytes)
        }
        return (.failed("no end"), output.bytes)
      } catch {
        session.kill()
        throw error
      }
    }
  }
}

extension ExecSession {
  /// Whether all output has been read to its end.
  var isDrained: Bool { [output, error].compactMap(\.self).allSatisfy(\.hasEnded) }
}

private final class OutputCollector: Sendable {
  private let state = Mutex<[UInt8]>([])
  private let limit: Int
  init(limit: Int) { self.limit = limit }
  func add(_ piece: [UInt8]) {
    state.withLock { $0 += piece.prefix(max(0, limit - $0.count)) }
  }
  var bytes: [UInt8] { state.withLock { $0 } }
}

extension ExecSession: RunningCommand {
  /// Output that a program's descendants hold open is waited for this long after its end, and after
  /// anything came.
  private static let drainTime = Duration.milliseconds(500)

  func pump(
    _ send: @escaping @Sendable ([UInt8], _ isError: Bool) async throws -> Void
  ) async -> ExecEnd {
    let activity = PumpActivity()
    let pumps = Task {
      await withTaskGroup(of: Void.self) { group in
        for (stream, isError) in [(output, false), (error, true)] {
          guard let stream else { continue }
          group.addTask {
            while let piece = try? await stream.read() {
              activity.beginSending()
              defer { activity.endSending() }
              do { try await send(piece, isError) } catch { return }
            }
          }
        }
      }
      activity.finish()
    }
    let end = await waitForEnd()
    activity.touch()
    while !activity.isOver(after: Self.drainTime) { try? await Task.sleep(for: .milliseconds(10)) }
    pumps.cancel()
    await pumps.value
    close()
    return end
  }

  func write(_ bytes: [UInt8]) async throws { try await input?.write(bytes) }
  func endInput() { input?.close() }
  func abandon() { kill() }
}

/// Whether output still moves.
private final class PumpActivity: Sendable {
  private struct State {
    var sending = 0
    var last = ContinuousClock.now
    var isFinished = false
  }
  private let state = Mutex(State())

  /// Waiting for silence begins here.
  func touch() { state.withLock { $0.last = .now } }
  func beginSending() { state.withLock { $0.sending += 1 } }
  func endSending() {
    state.withLock { state in
      state.sending -= 1
      state.last = .now
    }
  }
  func finish() { state.withLock { $0.isFinished = true } }

  /// All output has been handed on, or none came for a while. A client that is slow to read is waited for.
  func isOver(after idle: Duration) -> Bool {
    state.withLock { $0.isFinished || $0.sending == 0 && ContinuousClock.now - $0.last > idle }
  }
}
