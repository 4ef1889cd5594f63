import NIOCore
import Primitives
import Replica

// What stands on a connection between two members.
//
// A connection carries messages one way, from the member that dialled to the one that accepted, so that a
// stalled reader delays one direction only. The dialler opens with a hello; the acceptor answers with one
// status byte and, unless that is zero, a length-prefixed reason, and closes. Then come frames:
//
//     u32 length of the body | u32 CRC-32C of the body | body: one `PeerMessage`
//
// TCP's checksum lets one damaged segment in some tens of millions pass; an entry that went wrong on the
// way would be on a quorum's disks for ever, hence the CRC.

/// The first bytes of a connection: who calls whom, in which cluster.
struct PeerHello: Equatable {
  static let magic: [UInt8] = Array("MARTLETP".utf8)
  static let version: UInt16 = 2
  /// Read still: it didn't say where the caller listens.
  static let versionWithoutURLs: UInt16 = 1
  static let size = 8 + 2 + 8 + 8 + 8

  var cluster: UInt64
  var from: NodeID
  var to: NodeID
  /// Where the caller listens: one that was away while its cluster got new members doesn't know those who call.
  var urls: [String] = []

  /// A caller that is not in the cluster yet, and asks who is.
  static let inquiry = PeerHello(cluster: 0, from: NodeID(0), to: NodeID(0))
  var isInquiry: Bool { self == PeerHello.inquiry }

  func write(into buffer: inout ByteBuffer) {
    buffer.writeBytes(PeerHello.magic)
    buffer.writeInteger(PeerHello.version, endianness: .little)
    buffer.writeInteger(cluster, endianness: .little)
    buffer.writeInteger(from.rawValue, endianness: .little)
    buffer.writeInteger(to.rawValue, endianness: .little)
    let list = urls.joined(separator: ",")
    buffer.writeInteger(UInt32(list.utf8.count), endianness: .little)
    buffer.writeString(list)
  }

  /// Reads a hello; nil while bytes are missing.
  static func read(from buffer: inout ByteBuffer) throws(PeerRefusal) -> PeerHello? {
    let seen = min(buffer.readableBytes, magic.count)
    guard Array(buffer.readableBytesView.prefix(seen)) == Array(magic.prefix(seen)) else {
      throw PeerRefusal(
        .notAPeer, "the peer port speaks only Martlet's member protocol; clients use the client URL"
      )
    }
    guard buffer.readableBytes >= size else { return nil }
    let start = buffer.readerIndex
    buffer.moveReaderIndex(forwardBy: magic.count)
    guard let version = buffer.readInteger(endianness: .little, as: UInt16.self),
      let cluster = buffer.readInteger(endianness: .little, as: UInt64.self),
      let from = buffer.readInteger(endianness: .little, as: UInt64.self),
      let to = buffer.readInteger(endianness: .little, as: UInt64.self)
    else { return nil }
    guard version == PeerHello.version || version == versionWithoutURLs else {
      throw PeerRefusal(
        .version, "member protocol version \(version), this member speaks \(PeerHello.version)")
    }
    var hello = PeerHello(cluster: cluster, from: NodeID(from), to: NodeID(to))
    if version == versionWithoutURLs { return hello }
    let length = buffer.readInteger(endianness: .little, as: UInt32.self)
    if let length, length > Limits.urlBytes {
      throw PeerRefusal(.notAPeer, "a hello with \(length) bytes of peer URLs, over the limit")
    }
    guard let length, let list = buffer.readString(length: Int(length)) else {
      buffer.moveReaderIndex(to: start)
      return nil
    }
    hello.urls = list.split(separator: ",").map(String.init)
    return hello
  }
}

/// Why an acceptor hangs up on a dialler, told to it before closing.
struct PeerRefusal: Error, Equatable, CustomStringConvertible {
  enum Code: UInt8 {
    case notAPeer = 1
    case version = 2
    case foreignCluster = 3
    case wrongMember = 4
    case unknownMember = 5
    case removedMember = 6
  }
  var code: Code
  var reason: String
  init(_ code: Code, _ reason: String) {
    self.code = code
    self.reason = reason
  }
  var description: String { reason }
}

/// Frames around peer messages.
enum PeerFrame {
  static let headerSize = 8

  static func write(_ message: PeerMessage, into buffer: inout ByteBuffer, scratch: inout [UInt8]) {
    scratch.removeAll(keepingCapacity: true)
    append(message, to: &scratch)
    buffer.writeBytes(scratch)
  }

  static func append(_ message: PeerMessage, to bytes: inout [UInt8]) {
    let start = bytes.count
    bytes.append(littleEndian: 0 as UInt64)
    message.encode(into: &bytes)
    bytes.withUnsafeMutableBytes { bytes in
      let body = UnsafeRawBufferPointer(rebasing: bytes[(start + headerSize)...])
      let checksum = CRC32C.checksum(body)
      let header = UInt64(UInt32(body.count)) | UInt64(checksum) << 32
      bytes.storeBytes(of: header.littleEndian, toByteOffset: start, as: UInt64.self)
    }
  }

  /// Reads the next whole frame; nil while bytes are missing.
  static func read(from buffer: inout ByteBuffer) throws -> PeerMessage? {
    guard
      let length = buffer.getInteger(
        at: buffer.readerIndex, endianness: .little, as: UInt32.self),
      let checksum = buffer.getInteger(
        at: buffer.readerIndex + 4, endianness: .little, as: UInt32.self)
    else { return nil }
    guard length <= Limits.frameBytes else {
      throw PeerMessageError(description: "a frame of \(length) bytes, over the limit")
    }
    guard buffer.readableBytes >= headerSize + Int(length) else { return nil }
    buffer.moveReaderIndex(forwardBy: headerSize)
    return try buffer.readWithUnsafeReadableBytes { bytes in
      let body = UnsafeRawBufferPointer(rebasing: bytes[..<Int(length)])
      guard CRC32C.checksum(body) == checksum else {
        throw PeerMessageError(description: "a frame's checksum does not match its bytes")
      }
      return (Int(length), try PeerMessage.decode(body))
    }
  }
}

/// Every bound of the transport, with its reason.
enum Limits {
  /// The longest frame taken: an append of several full entries, with room for a raised
  /// `--max-request-bytes`.
  static let frameBytes: UInt32 = 256 << 20
  /// Bytes that may wait for one peer. A peer that is further behind gets the log again from Raft.
  static let queuedBytes = 64 << 20
  /// Bytes that a thread may write to a peer by itself. More would hold up the thread that runs the
  /// core for longer than the event loop's wake-up costs.
  static let directBytes = 32 << 10
  /// How often the round-trip time of a connection is looked at; etcd's interval.
  static let roundTripInterval = TimeAmount.seconds(3)
  /// How long a member that was removed is still spoken to, so that it hears of it.
  static let removedGrace = TimeAmount.seconds(2)
  /// Bytes of a caller's peer URLs: a few dozen each.
  static let urlBytes: UInt32 = 8 << 10
  /// Callers that this member doesn't know yet and answers nevertheless: more than a cluster has members.
  static let introducedMembers = 64
  /// Bytes of an answer about the members: some hundred for each of a few dozen.
  static let rosterBytes: UInt32 = 1 << 20
  /// Time to connect and be accepted.
  static let connectTimeout = TimeAmount.seconds(2)
  /// Waits between attempts to reach a member that is down: doubling, with jitter.
  static let shortestRetry = TimeAmount.milliseconds(20)
  static let longestRetry = TimeAmount.milliseconds(500)
}
