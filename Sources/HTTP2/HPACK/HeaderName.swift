/// The header names that the servers and clients look at, recognised once while decoding.
public enum HeaderName: UInt8, Hashable, Sendable, CaseIterable {
  case other
  case authority, method, path, scheme, status, unknownPseudo
  case connection, contentLength, contentType, host, keepAlive, proxyConnection, te
  case transferEncoding, upgrade
  case accept, acceptEncoding, authorization, userAgent
  case grpcAcceptEncoding, grpcEncoding, grpcMessage, grpcStatus, grpcTimeout
  case hasleader, token

  /// The name on the wire; empty for `other` and `unknownPseudo`.
  public var bytes: StaticString {
    switch self {
    case .other, .unknownPseudo: ""
    case .authority: ":authority"
    case .method: ":method"
    case .path: ":path"
    case .scheme: ":scheme"
    case .status: ":status"
    case .connection: "connection"
    case .contentLength: "content-length"
    case .contentType: "content-type"
    case .host: "host"
    case .keepAlive: "keep-alive"
    case .proxyConnection: "proxy-connection"
    case .te: "te"
    case .transferEncoding: "transfer-encoding"
    case .upgrade: "upgrade"
    case .accept: "accept"
    case .acceptEncoding: "accept-encoding"
    case .authorization: "authorization"
    case .userAgent: "user-agent"
    case .grpcAcceptEncoding: "grpc-accept-encoding"
    case .grpcEncoding: "grpc-encoding"
    case .grpcMessage: "grpc-message"
    case .grpcStatus: "grpc-status"
    case .grpcTimeout: "grpc-timeout"
    case .hasleader: "hasleader"
    case .token: "token"
    }
  }

  /// Finds the name by its length, then its bytes.
  static func recognise(_ name: UnsafeRawBufferPointer) -> HeaderName {
    func check(_ candidates: HeaderName...) -> HeaderName {
      for candidate in candidates where equal(name, candidate.bytes) { return candidate }
      return name.first == UInt8(ascii: ":") ? .unknownPseudo : .other
    }
    switch name.count {
    case 2: return check(.te)
    case 4: return check(.host)
    case 5: return check(.path, .token)
    case 6: return check(.accept)
    case 7: return check(.method, .scheme, .status, .upgrade)
    case 9: return check(.hasleader)
    case 10: return check(.authority, .userAgent, .connection, .keepAlive)
    case 11: return check(.grpcStatus)
    case 12: return check(.contentType, .grpcTimeout, .grpcMessage)
    case 13: return check(.grpcEncoding, .authorization)
    case 14: return check(.contentLength)
    case 15: return check(.acceptEncoding)
    case 16: return check(.proxyConnection)
    case 17: return check(.transferEncoding)
    case 20: return check(.grpcAcceptEncoding)
    default: return check()
    }
  }
}

/// Whether the borrowed bytes are exactly `text`.
@inlinable @inline(__always)
func equal(_ bytes: UnsafeRawBufferPointer, _ text: StaticString) -> Bool {
  guard bytes.count == text.utf8CodeUnitCount else { return false }
  return bytes.elementsEqual(UnsafeBufferPointer(start: text.utf8Start, count: bytes.count))
}
