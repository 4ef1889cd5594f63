import HTTP1Client
import KubeAPI

/// What a watch tells.
public enum WatchEvent: Sendable {
  case added(Value)
  case modified(Value)
  case deleted(Value)
  /// Nothing changed up to this resource version.
  case bookmark(resourceVersion: String)
}

/// The events of one watch request, in order. Can be iterated once.
public struct WatchStream: AsyncSequence, Sendable {
  public typealias Element = WatchEvent
  private let body: ResponseBody

  init(_ body: ResponseBody) { self.body = body }

  public struct AsyncIterator: AsyncIteratorProtocol {
    var pieces: ResponseBody.AsyncIterator
    private var buffer: [UInt8] = []
    /// Where the line begins that comes next, and how far its end was looked for.
    private var start = 0
    private var searched = 0

    init(_ body: ResponseBody) { pieces = body.makeAsyncIterator() }

    /// - Throws: `StatusError` where the server ends the watch with one (`410 Expired`, say).
    public mutating func next() async throws -> WatchEvent? {
      while true {
        if let newline = buffer[searched...].firstIndex(of: UInt8(ascii: "\n")) {
          let line = start..<newline
          start = newline + 1
          searched = start
          if line.isEmpty { continue }
          let value = try buffer.withUnsafeBytes {
            try Value(json: UnsafeRawBufferPointer(rebasing: $0[line]))
          }
          if let event = try Self.event(value) { return event }
          continue
        }
        // What was read goes at once, not line by line: a burst of events is a long buffer.
        buffer.removeFirst(start)
        start = 0
        searched = buffer.count
        guard buffer.count <= APIClient.Limits.watchLineBytes else {
          throw HTTPClientError(.tooLarge, "a watch event is too long")
        }
        guard let piece = try await pieces.next() else { return nil }
        buffer += piece
      }
    }

    private static func event(_ line: Value) throws -> WatchEvent? {
      let object = line["object"]
      switch line["type"].string {
      case "ADDED": return .added(object)
      case "MODIFIED": return .modified(object)
      case "DELETED": return .deleted(object)
      case "BOOKMARK":
        return .bookmark(resourceVersion: object["metadata"]["resourceVersion"].string ?? "")
      case "ERROR":
        throw StatusError(status: object, code: object["code"].int ?? 500)
      default:
        return nil
      }
    }
  }

  public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(body) }
}
