/// How a call ended. Source: gRPC's "Status codes and their use".
public struct GRPCStatus: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Code: Int, Sendable, Hashable {
    case ok = 0
    case cancelled, unknown, invalidArgument, deadlineExceeded, notFound, alreadyExists
    case permissionDenied, resourceExhausted, failedPrecondition, aborted, outOfRange
    case unimplemented, `internal`, unavailable, dataLoss, unauthenticated
  }
  public var code: Code
  public var message: String
  public init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }
  public static let ok = GRPCStatus(.ok, "")
  public var description: String { "\(code): \(message)" }

  /// What an HTTP/2 reset means to a call. Source: gRPC over HTTP/2, "Errors".
  init(reset code: HTTP2ErrorCode) {
    switch code {
    case .refusedStream:
      self.init(.unavailable, "the stream was refused before it was processed")
    case .cancel: self.init(.cancelled, "the stream was cancelled")
    case .enhanceYourCalm:
      self.init(.resourceExhausted, "the peer asks for less: \(code)")
    case .inadequateSecurity: self.init(.permissionDenied, "the stream was reset: \(code)")
    default: self.init(.internal, "the stream was reset: \(code)")
    }
  }

  /// What an HTTP status other than 200 means to a call. Source: gRPC's "HTTP to gRPC status code mapping".
  init(httpStatus: Int) {
    let code: Code =
      switch httpStatus {
      case 400: .internal
      case 401: .unauthenticated
      case 403: .permissionDenied
      case 404: .unimplemented
      case 429, 502, 503, 504: .unavailable
      default: .unknown
      }
    self.init(code, "HTTP status \(httpStatus)")
  }

  // MARK: grpc-message

  /// The message with everything but printable ASCII (and the percent sign itself) as `%XX`.
  static func percentEncoded(_ message: String) -> [UInt8] {
    let digits = Array("0123456789ABCDEF".utf8)
    var encoded: [UInt8] = []
    for byte in message.utf8 {
      if byte >= 0x20, byte <= 0x7E, byte != UInt8(ascii: "%") {
        encoded.append(byte)
      } else {
        encoded.append(UInt8(ascii: "%"))
        encoded.append(digits[Int(byte >> 4)])
        encoded.append(digits[Int(byte & 15)])
      }
    }
    // A header value must not end or start in a space.
    if encoded.last == 0x20 {
      encoded.replaceSubrange((encoded.count - 1)..., with: Array("%20".utf8))
    }
    if encoded.first == 0x20 { encoded.replaceSubrange(0..<1, with: Array("%20".utf8)) }
    return encoded
  }

  /// Undoes `percentEncoded`; broken escapes stay as they are.
  static func percentDecoded(_ bytes: UnsafeRawBufferPointer) -> String {
    var decoded: [UInt8] = []
    var index = 0
    while index < bytes.count {
      if bytes[index] == UInt8(ascii: "%"), index + 2 < bytes.count,
        let high = hexadecimal(bytes[index + 1]), let low = hexadecimal(bytes[index + 2])
      {
        decoded.append(high << 4 | low)
        index += 3
      } else {
        decoded.append(bytes[index])
        index += 1
      }
    }
    return String(decoding: decoded, as: UTF8.self)
  }

  private static func hexadecimal(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: byte - 0x30
    case 0x41...0x46: byte - 0x41 + 10
    case 0x61...0x66: byte - 0x61 + 10
    default: nil
    }
  }
}

/// The `grpc-timeout` header: up to eight digits and a unit.
enum GRPCTimeout {
  /// The time-out in nanoseconds; nil where the header is malformed. Too long ones are the maximum.
  static func parse(_ text: UnsafeRawBufferPointer) -> UInt64? {
    guard text.count >= 2, text.count <= 9, let unit = text.last else { return nil }
    var value: UInt64 = 0
    for byte in text.dropLast() {
      guard byte >= 0x30, byte <= 0x39 else { return nil }
      value = value * 10 + UInt64(byte - 0x30)
    }
    let scale: UInt64? =
      switch unit {
      case UInt8(ascii: "H"): 3_600_000_000_000
      case UInt8(ascii: "M"): 60_000_000_000
      case UInt8(ascii: "S"): 1_000_000_000
      case UInt8(ascii: "m"): 1_000_000
      case UInt8(ascii: "u"): 1_000
      case UInt8(ascii: "n"): 1
      default: nil
      }
    guard let scale else { return nil }
    let (product, overflow) = value.multipliedReportingOverflow(by: scale)
    return overflow ? .max : product
  }

  /// The header for a time-out, in the finest unit whose number has eight digits.
  static func format(nanoseconds: UInt64) -> String {
    let units: [(String, UInt64)] = [
      ("n", 1), ("u", 1_000), ("m", 1_000_000), ("S", 1_000_000_000), ("M", 60_000_000_000),
    ]
    for (unit, scale) in units where nanoseconds / scale < 100_000_000 {
      return "\(nanoseconds / scale)\(unit)"
    }
    return "\(min(nanoseconds / 3_600_000_000_000, 99_999_999))H"
  }
}
