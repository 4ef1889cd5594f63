import HTTPServer
import KubeAPI

/// The two documents about what is used, made of the last sample.
struct MetricsEndpoints: Sendable {
  let sampler: ResourceSampler
  let nodeName: String
  /// On the file system that holds pods and images.
  let directory: String

  func summary() async -> HTTPResponse {
    let snapshot = await sampler.last
    let files = Disk.capacity(of: directory).map { (total: $0.total, available: $0.available) }
    let document = StatsSummary.document(
      snapshot, nodeName: nodeName, memoryBytes: Machine.memoryBytes, files: files,
      bootedAt: Machine.bootTime(now: .wallClock()))
    return HTTPResponse(
      status: 200, fields: ["Content-Type": "application/json"], body: .bytes(document.json))
  }

  func resources() async -> HTTPResponse {
    HTTPResponse(
      status: 200, fields: ["Content-Type": ResourceMetrics.contentType],
      body: .bytes(Array(ResourceMetrics.text(await sampler.last).utf8)))
  }
}
