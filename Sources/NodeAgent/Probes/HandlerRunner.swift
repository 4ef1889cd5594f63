import Glibc
import HTTP1Client
import KubeAPI
import NIOCore
import NIOPosix
import NIOSSL

/// Carries probes and lifecycle hooks out: runs a program, asks over HTTP or gRPC, connects.
///
/// Messages are worded as Kubernetes words them, because people search for them.
struct HandlerRunner: Sendable {
  enum Limits {
    /// The part of an answer or of a program's output that a message quotes, in bytes.
    static let outputBytes = 10 << 10
    static let redirects = 10
  }

  let runtime: any ContainerRuntime
  /// The Kubernetes version that probes name themselves after.
  static let userAgent = "kube-probe/1.32"

  // MARK: Probes

  func probe(
    _ settings: ProbeSettings, _ container: ContainerID, address: String?
  ) async -> ProbeTracker.Outcome {
    let timeout = Duration.seconds(settings.timeoutSeconds)
    switch settings.handler {
    case .execute(let command): return await execute(command, container, timeout)
    case .http(let get):
      guard let port = get.port.number else { return Self.noPort(get.port) }
      return await http(get, host: get.host ?? address ?? "127.0.0.1", port: port, timeout)
    case .connect(let host, let port):
      guard let number = port.number else { return Self.noPort(port) }
      return await connect(host ?? address ?? "127.0.0.1", number, timeout)
    case .grpc(let port, let service):
      return await GRPCHealthCheck.run(
        host: address ?? "127.0.0.1", port: port, service: service, timeout: timeout)
    case .sleep: return .unknown("a probe can't sleep")
    }
  }

  private static func noPort(_ port: ContainerHandler.Port) -> ProbeTracker.Outcome {
    .unknown("couldn't find port: \(port.text)")
  }

  private func execute(
    _ command: [String], _ container: ContainerID, _ timeout: Duration
  ) async -> ProbeTracker.Outcome {
    do {
      let (end, output) = try await runtime.run(
        command, in: container, timeout: timeout, outputLimit: Limits.outputBytes)
      switch end {
      case .exited(0): return .success
      case .exited: return .failure(String(decoding: output, as: UTF8.self))
      case .failed(let message): return .failure(message)
      }
    } catch is ExecTimeout {
      return .failure("command \"\(command.joined(separator: " "))\" timed out")
    } catch {
      return .unknown("\(error)")
    }
  }

  private func http(
    _ get: ContainerHandler.HTTPGet, host: String, port: Int, _ timeout: Duration
  ) async -> ProbeTracker.Outcome {
    var target = HTTPTarget(
      isSecure: get.isSecure, host: host, port: port,
      path: get.path.hasPrefix("/") ? get.path : "/" + get.path)
    let deadline = ContinuousClock.now + timeout
    for _ in 0...Limits.redirects {
      do {
        let answer = try await self.answer(
          target, get.headers, timeout: deadline - ContinuousClock.now)
        if (300..<400).contains(answer.status), let location = answer.location {
          // Elsewhere is not the container's affair; that it sent us there is an answer.
          guard let next = target.following(location), next.host == host else { return .success }
          target = next
          continue
        }
        return (200..<400).contains(answer.status)
          ? .success : .failure("HTTP probe failed with statuscode: \(answer.status)")
      } catch {
        return .failure("Get \"\(target)\": \(Self.words(error, host: target.host, port: target.port))")
      }
    }
    return .failure("Get \"\(target)\": stopped after \(Limits.redirects) redirects")
  }

  private func answer(
    _ target: HTTPTarget, _ headers: [ContainerHandler.Header], timeout: Duration
  ) async throws -> (status: Int, location: String?) {
    var tls: TLSConfiguration?
    if target.isSecure {
      // A probe asks whether somebody answers, not who it is.
      tls = .makeClientConfiguration()
      tls?.certificateVerification = .none
    }
    var settings = HTTPConnectionPool.Settings(host: target.host, port: target.port, tls: tls)
    settings.connectTimeout = TimeAmount(max(timeout, .milliseconds(1)))
    settings.idleConnections = 0
    let pool = try HTTPConnectionPool(settings: settings)
    var fields: [(name: String, value: String)] = headers.map { ($0.name, $0.value) }
    func setDefault(_ name: String, _ value: String) {
      if !fields.contains(where: { $0.name.lowercased() == name.lowercased() }) {
        fields.append((name, value))
      }
    }
    setDefault("User-Agent", Self.userAgent)
    setDefault("Accept", "*/*")
    setDefault("Connection", "close")
    let response = try await pool.send(
      OutgoingRequest(method: "GET", target: target.path, headers: fields),
      headTimeout: TimeAmount(max(timeout, .milliseconds(1))), isRepeatable: false)
    return (response.status, response.header("location"))
  }

  private func connect(
    _ host: String, _ port: Int, _ timeout: Duration
  ) async -> ProbeTracker.Outcome {
    do {
      let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        .connectTimeout(TimeAmount(timeout)).connect(host: host, port: port).get()
      channel.close(promise: nil)
      return .success
    } catch {
      return .failure(Self.words(error, host: host, port: port))
    }
  }

  /// A failed connection in the words that Go's network library has for it.
  static func words(_ error: any Error, host: String, port: Int) -> String {
    let place = host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    let text = "\(error)"
    if let error = error as? HTTPClientError, error.code == .timedOut {
      return "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
    }
    for (sign, words) in [
      ("refused", "connect: connection refused"), ("No route", "connect: no route to host"),
      ("unreachable", "connect: network is unreachable"), ("imeout", "i/o timeout"),
    ] where text.contains(sign) {
      return "dial tcp \(place): \(words)"
    }
    if let error = error as? HTTPClientError, error.code == .connectionLost { return "EOF" }
    return "dial tcp \(place): \(text)"
  }

  // MARK: Hooks

  /// Why a hook failed.
  struct HookFailure: Error, CustomStringConvertible {
    var description: String
  }

  /// Carries a lifecycle hook out; it takes as long as it takes, or until the task is cancelled.
  func hook(_ handler: ContainerHandler, _ container: ContainerID, address: String?) async throws {
    switch handler {
    case .execute(let command):
      let (end, output) = try await runtime.run(
        command, in: container, timeout: .seconds(24 * 3_600), outputLimit: Limits.outputBytes)
      switch end {
      case .exited(0): return
      case .exited(let code):
        let text = String(decoding: output, as: UTF8.self)
        throw HookFailure(
          description: "command '\(command.joined(separator: " "))' exited with \(code): \(text)")
      case .failed(let message): throw HookFailure(description: message)
      }
    case .http(let get):
      guard let port = get.port.number else {
        throw HookFailure(description: "couldn't find port: \(get.port.text)")
      }
      let target = HTTPTarget(
        isSecure: get.isSecure, host: get.host ?? address ?? "127.0.0.1", port: port,
        path: get.path.hasPrefix("/") ? get.path : "/" + get.path)
      let answer = try await answer(target, get.headers, timeout: .seconds(30))
      guard (200..<400).contains(answer.status) else {
        throw HookFailure(description: "HTTP hook failed with statuscode: \(answer.status)")
      }
    case .sleep(let seconds): try await Task.sleep(for: .seconds(max(0, seconds)))
    case .connect, .grpc:
      throw HookFailure(description: "this kind of handler is not known for hooks")
    }
  }
}

/// Where an HTTP request goes.
struct HTTPTarget: Equatable, CustomStringConvertible {
  var isSecure: Bool
  var host: String
  var port: Int
  /// Path and query.
  var path: String

  var description: String {
    let place = host.contains(":") ? "[\(host)]" : host
    return "\(isSecure ? "https" : "http")://\(place):\(port)\(path)"
  }

  /// Where a `Location` leads from here; nil where that isn't HTTP.
  func following(_ location: String) -> HTTPTarget? {
    var next = self
    if location.hasPrefix("/"), !location.hasPrefix("//") {
      next.path = location
      return next
    }
    let parts = location.split(separator: "/", maxSplits: 3, omittingEmptySubsequences: false)
    guard parts.count >= 3, parts[1].isEmpty, ["http:", "https:"].contains(parts[0]) else {
      return nil
    }
    next.isSecure = parts[0] == "https:"
    next.port = next.isSecure ? 443 : 80
    var place = parts[2]
    if let colon = place.lastIndex(of: ":"), !place.hasSuffix("]") {
      guard let port = Int(place[place.index(after: colon)...]) else { return nil }
      next.port = port
      place = place[..<colon]
    }
    next.host = place.hasPrefix("[") ? String(place.dropFirst().dropLast()) : String(place)
    next.path = parts.count > 3 ? "/" + parts[3] : "/"
    return next
  }
}
