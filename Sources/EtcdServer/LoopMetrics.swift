import HTTP2

/// Counts of one event loop, written there and nowhere else; summed when someone asks.
struct LoopMetrics: Sendable {
  static let codes = 17

  /// Calls begun, by method.
  var started = [UInt64](repeating: 0, count: EtcdMethod.allCases.count)
  /// Calls ended, by method and status.
  var handled = [UInt64](repeating: 0, count: EtcdMethod.allCases.count * codes)
  var receivedBytes: UInt64 = 0
  var sentBytes: UInt64 = 0
  var connections = 0
  var watchStreams = 0
  var watchers = 0

  @inline(__always)
  mutating func count(_ method: EtcdMethod, _ code: GRPCStatus.Code) {
    handled[method.rawValue &* Self.codes &+ code.rawValue] &+= 1
  }

  mutating func add(_ other: LoopMetrics) {
    for index in started.indices { started[index] &+= other.started[index] }
    for index in handled.indices { handled[index] &+= other.handled[index] }
    receivedBytes &+= other.receivedBytes
    sentBytes &+= other.sentBytes
    connections += other.connections
    watchStreams += other.watchStreams
    watchers += other.watchers
  }
}
