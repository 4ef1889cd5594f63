import HTTPServer
import Synchronization

/// Connections from a client's ports to a pod's: SPDY streams in pairs, one for data, one for errors.
///
/// The client opens both with the same `requestID`; the error stream it ends at once, and reads. A
/// connection that can't be made is told there, and costs no other connection anything. Source:
/// Kubernetes, `portforward.k8s.io`.
struct PortForwarder: Sendable {
  static let protocolName = "portforward.k8s.io"

  enum Limits {
    /// Pairs of streams at once on one connection.
    static let pairs = 1_024
    static let pieceBytes = 32 << 10
  }

  let runtime: any ContainerRuntime
  let sandbox: SandboxStatus

  private struct Target {
    var connection: ByteStream
    var pump: Task<Void, Never>
  }

  /// Serves until the client goes.
  func run(_ stream: ByteStream) async {
    let spdy = SPDYConnection(stream)
    /// Error streams that wait for their data stream, by request.
    var waiting: [String: UInt32] = [:]
    var targets: [UInt32: Target] = [:]
    do {
      loop: while let event = try await spdy.next() {
        switch event {
        case .opened(let id, let headers, _):
          func header(_ name: String) -> String {
            headers.first { $0.name.lowercased() == name }?.value ?? ""
          }
          guard waiting.count + targets.count < Limits.pairs else {
            try await spdy.send(SPDYWriter.reset(id))
            continue
          }
          try await spdy.reply(to: id)
          let request = header("requestid")
          if header("streamtype").lowercased() == "error" {
            waiting[request] = id
            continue
          }
          let errors = waiting.removeValue(forKey: request)
          targets[id] = await open(id, errors: errors, port: header("port"), spdy)
        case .data(let id, let bytes, let isLast):
          guard let target = targets[id] else { continue }
          if !bytes.isEmpty { try? await target.connection.write(bytes) }
          if isLast { target.connection.finishWriting() }
        case .reset(let id):
          if let target = targets.removeValue(forKey: id) {
            target.pump.cancel()
            target.connection.close()
          }
        case .goAway: break loop
        case .ping: break
        }
      }
    } catch {
      // The connection is broken, or speaks something else: its targets close below.
    }
    for target in targets.values {
      target.pump.cancel()
      target.connection.close()
    }
    spdy.close()
  }

  private func open(
    _ id: UInt32, errors: UInt32?, port: String, _ spdy: SPDYConnection
  ) async -> Target? {
    func end(_ message: String) async {
      if let errors {
        try? await spdy.send(SPDYWriter.data(errors, Array(message.utf8), isLast: true))
      }
      try? await spdy.send(SPDYWriter.data(id, [], isLast: true))
    }
    guard let number = UInt16(port), number > 0 else {
      await end("error forwarding port \(port) to pod \(sandbox.podUID): not a port")
      return nil
    }
    let connection: ByteStream
    do {
      connection = try await runtime.connect(to: sandbox.id, port: number)
    } catch {
      let reason =
        (error as? SystemError).map { _ in "connect: connection refused" } ?? "\(error)"
      await end(
        "error forwarding port \(port) to pod \(sandbox.id), uid : failed to execute portforward in "
          + "network namespace: failed to connect to localhost:\(port) inside namespace "
          + "\"\(sandbox.id)\", IPv4: dial tcp4 127.0.0.1:\(port): \(reason)")
      return nil
    }
    let pump = Task {
      do {
        while let bytes = try await connection.read() {
          for start in stride(from: 0, to: bytes.count, by: Limits.pieceBytes) {
            let piece = Array(bytes[start..<min(start + Limits.pieceBytes, bytes.count)])
            try await spdy.send(SPDYWriter.data(id, piece))
          }
        }
        await end("")
      } catch {
        // The pod's side broke: to the client that is the end.
        if !Task.isCancelled { await end("") }
      }
    }
    return Target(connection: connection, pump: pump)
  }
}
