import CLinux
import Glibc
import HTTPServer
import KubeAPI
import NIOCore
import NIOPosix
import Synchronization

/// A client's share in a running container's own streams.
public final class AttachSession: RunningCommand {
  private let stream: ByteStream
  private let rest: Mutex<[UInt8]>

  init(_ stream: ByteStream, rest: [UInt8]) {
    self.stream = stream
    self.rest = Mutex(rest)
  }

  func pump(
    _ send: @escaping @Sendable ([UInt8], _ isError: Bool) async throws -> Void
  ) async -> ExecEnd {
    do {
      while true {
        while let (kind, payload) = takeFrame() {
          switch kind {
          case AttachFrame.output: try await send(payload, false)
          case AttachFrame.error: try await send(payload, true)
          case AttachFrame.end:
            stream.close()
            return .exited(0)
          default: break
          }
        }
        guard let bytes = try await stream.read() else { break }
        rest.withLock { $0 += bytes }
      }
    } catch {
      // The client or the shim has gone.
    }
    stream.close()
    return .exited(0)
  }

  private func takeFrame() -> (UInt8, [UInt8])? {
    rest.withLock { rest in
      guard rest.count >= AttachFrame.headerBytes else { return nil }
      let end = AttachFrame.headerBytes + AttachFrame.length(rest)
      guard rest.count >= end else { return nil }
      defer { rest.removeSubrange(..<end) }
      return (rest[0], Array(rest[AttachFrame.headerBytes..<end]))
    }
  }

  func write(_ bytes: [UInt8]) async throws {
    for start in stride(from: 0, to: bytes.count, by: AttachFrame.limit) {
      let piece = bytes[start..<min(start + AttachFrame.limit, bytes.count)]
      try await stream.write(AttachFrame.make(AttachFrame.input, piece))
    }
  }

  func endInput() { post(AttachFrame.make(AttachFrame.inputEnd, [])) }

  func resize(columns: UInt16, rows: UInt16) {
    let bytes = [columns, rows].flatMap { [UInt8($0 >> 8), UInt8($0 & 0xFF)] }
    post(AttachFrame.make(AttachFrame.resize, bytes))
  }

  func abandon() { stream.close() }

  private func post(_ frame: [UInt8]) {
    let stream = stream
    Task { try? await stream.write(frame) }
  }
}

extension CrunRuntime {
  public func attach(_ id: ContainerID, input: Bool) async throws -> AttachSession {
    let found = state.withLock { state -> SandboxID? in
      guard let owner = state.owners[id],
        case .running? = state.sandboxes[owner]?.containers[id]?.state.state
      else { return nil }
      return owner
    }
    guard let found else { throw RuntimeError(.notFound, "container \(id) is not running") }
    let descriptor = try SystemError.check(
      clinux_connect(directory(found), SandboxFiles.socketName), "connect to the shim in",
      directory(found))
    let opening = ByteStream.Opening()
    _ = try await ClientBootstrap(group: group)
      .channelOption(.autoRead, value: false)
      .channelInitializer { opening.initialize($0) }
      .withConnectedSocket(descriptor).get()
    let stream = try opening.stream
    try await stream.write(
      ShimRequest.attach(id, input: input).json(id: 1).json + [UInt8(ascii: "\n")])
    // One line answers; frames follow.
    var bytes: [UInt8] = []
    while true {
      if let end = bytes.firstIndex(of: UInt8(ascii: "\n")) {
        let line = (try? Value(json: Array(bytes[..<end]))) ?? .null
        // An event of another container may come before the answer.
        guard !line["id"].isNull else {
          bytes.removeSubrange(...end)
          continue
        }
        if let error = line["error"].string {
          stream.close()
          throw RuntimeError(.notFound, error)
        }
        return AttachSession(stream, rest: Array(bytes[(end + 1)...]))
      }
      guard let piece = try await stream.read() else {
        throw RuntimeError(.notFound, "the sandbox's shim has ended")
      }
      bytes += piece
    }
  }
}
