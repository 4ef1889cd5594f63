import Glibc
import HTTPServer
import KubeAPI
import Logging
import SwiftASN1
import X509

/// The node's port: what the API server asks of a node.
///
/// | path | answer |
/// |---|---|
/// | `/healthz` | `ok` |
/// | `/stats/summary` | what the node and its pods use, in JSON |
/// | `/metrics/resource` | the same for Prometheus |
/// | `/containerLogs/NAMESPACE/POD/CONTAINER?follow&tailLines&…` | the container's output |
/// | `/exec/NAMESPACE/POD/CONTAINER?command&input&output&error&tty` | an upgrade: a program's streams |
/// | `/attach/NAMESPACE/POD/CONTAINER?input&output&error&tty` | an upgrade: the container's own streams |
/// | `/portForward/NAMESPACE/POD` | an upgrade: connections into the pod |
///
/// Everybody but the API server is turned away: TLS demands a certificate of the cluster's authority, and
/// its subject must be the API server's (``clientName``), because nodes and components have certificates
/// of the same authority.
struct AgentServer: Sendable {
  /// The common name in the API server's client certificate.
  static let clientName = "kube-apiserver-kubelet-client"

  enum Limits {
    /// How often a followed log is looked at when nothing tells of new lines.
    static let followInterval: Duration = .milliseconds(100)
  }

  let runtime: any ContainerRuntime
  let metrics: MetricsEndpoints
  let logger: Logger
  /// The pod of a namespace and name, as the API has it.
  let pod: @Sendable (_ namespace: String, _ name: String) -> Value?

  func respond(to request: HTTPRequest) async -> HTTPResponse {
    guard isFromAPIServer(request) else { return .text(401, "Unauthorized") }
    let segments = request.target.segments
    let isStream = ["exec", "attach", "portForward"].contains(segments.first)
    guard request.method == "GET" || isStream && request.method == "POST" else {
      return .text(405, "Method Not Allowed")
    }
    switch segments.first {
    case "healthz" where segments.count == 1:
      return HTTPResponse(status: 200, body: .bytes(Array("ok".utf8)))
    case "stats" where segments == ["stats", "summary"]: return await metrics.summary()
    case "metrics" where segments == ["metrics", "resource"]: return await metrics.resources()
    case "containerLogs" where segments.count == 4:
      return logs(
        namespace: segments[1], pod: segments[2], container: segments[3], request.target)
    case "exec" where segments.count == 4, "attach" where segments.count == 4:
      return await command(request, segments)
    case "portForward" where segments.count == 3: return forward(request, segments)
    default: return .text(404, "404 page not found")
    }
  }

  private func isFromAPIServer(_ request: HTTPRequest) -> Bool {
    guard request.connection.isSecure, let bytes = request.connection.clientCertificate,
      let certificate = try? Certificate(derEncoded: bytes)
    else { return false }
    for name in certificate.subject {
      for attribute in name where attribute.type == .RDNAttributeType.commonName {
        return String(describing: attribute.value) == Self.clientName
      }
    }
    return false
  }

  private func logs(
    namespace: String, pod: String, container: String, _ target: RequestTarget
  ) -> HTTPResponse {
    let options: LogOptions
    do {
      options = try LogOptions(target, now: .wallClock())
    } catch {
      return .text(400, "\(error)")
    }
    let sandboxes = runtime.pods().filter { $0.podNamespace == namespace && $0.podName == pod }
    // A pod of the same name may still be going: the newest is meant.
    let uid = sandboxes.last?.podUID
    let attempts = sandboxes.filter { $0.podUID == uid }.flatMap(\.containers)
      .filter { $0.name == container }.sorted { $0.attempt > $1.attempt }
    guard !sandboxes.isEmpty else {
      return .text(404, "pod \"\(pod)\" in namespace \"\(namespace)\" has no sandbox on this node")
    }
    let wanted: ContainerStatus?
    if options.previous {
      // The one that the status calls the last: in a back-off that is the newest attempt.
      let object = self.pod(namespace, pod)
      let statuses =
        (object?["status"]["containerStatuses"].elements ?? [])
        + (object?["status"]["initContainerStatuses"].elements ?? [])
      let last = statuses.first { $0["name"].string == container }?["lastState"]["terminated"]
      wanted = attempts.first { "crun://\($0.id)" == last?["containerID"].string }
    } else {
      wanted = attempts.first
    }
    guard let wanted else {
      let words =
        options.previous
        ? "previous terminated container \"\(container)\" in pod \"\(pod)\" not found"
        : "container \"\(container)\" in pod \"\(pod)\" is waiting to start"
      return .text(400, words)
    }
    guard let path = runtime.logPath(wanted.id) else {
      return .text(404, "container \"\(container)\" has no log")
    }
    let runtime = runtime
    let id = wanted.id
    return HTTPResponse(
      status: 200, fields: ["Content-Type": "text/plain"],
      body: .stream { writer in
        try await Self.stream(path, options, to: writer) {
          let status = runtime.pods().flatMap(\.containers).first { $0.id == id }
          if case .running = status?.state { return true }
          return false
        }
      })
  }

  /// Writes a log, and with `follow` what is added to it until the container has ended.
  private static func stream(
    _ path: String, _ options: LogOptions, to writer: ResponseWriter,
    isRunning: () -> Bool
  ) async throws {
    let reader = LogReaderBox(try openLog(path, options))
    while true {
      // Asked before reading: what came before the end is in the file by then.
      let mayGrow = options.follow && isRunning()
      while let output = try reader.next() {
        if !output.isEmpty { try await writer.write(output) }
        if reader.isExhausted { return }
      }
      guard mayGrow else { return }
      try await Task.sleep(for: Limits.followInterval)
    }
  }

  private static func openLog(
    _ path: String, _ options: LogOptions
  ) throws -> ContainerLogReader? {
    do throws(SystemError) {
      return try ContainerLogReader(path, options)
    } catch {
      // A container that never ran has no log: that is an empty one.
      if error.number == ENOENT { return nil }
      throw error
    }
  }

  /// Lets an async function hold the reader, which can't be copied.
  private final class LogReaderBox {
    private var reader: ContainerLogReader?
    init(_ reader: consuming ContainerLogReader?) { self.reader = consume reader }
    func next() throws(SystemError) -> [UInt8]? { try reader?.next() ?? nil }
    var isExhausted: Bool { reader?.isExhausted ?? true }
  }
}
