import Glibc
import KubeAPI

extension Timestamp {
  /// The machine's clock, to the nanosecond.
  static func wallClock() -> Timestamp {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Timestamp(secondsSinceEpoch: Int64(time.tv_sec), nanoseconds: Int64(time.tv_nsec))
  }

  /// RFC 3339 in UTC with nine digits of a second, as in the CRI's logs.
  var nanosecondText: String {
    var bytes: [UInt8] = []
    var prefix = SecondPrefix()
    prefix.append(self, to: &bytes)
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Writes times with nine digits, formatting the date only when the second changes: a log's lines come
  /// many to the second.
  struct SecondPrefix {
    private var second: Int64 = .min
    /// `2026-11-23T15:44:18`, without the zone.
    private var text: [UInt8] = []

    mutating func append(_ time: Timestamp, to bytes: inout [UInt8]) {
      if time.secondsSinceEpoch != second {
        second = time.secondsSinceEpoch
        text = Array(time.description.utf8.dropLast())
      }
      bytes += text
      bytes.append(UInt8(ascii: "."))
      var divisor: Int32 = 100_000_000
      while divisor > 0 {
        bytes.append(UInt8(48 + time.nanoseconds / divisor % 10))
        divisor /= 10
      }
      bytes.append(UInt8(ascii: "Z"))
    }
  }
}
