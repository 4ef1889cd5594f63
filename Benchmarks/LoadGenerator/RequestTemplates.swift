import EtcdWire
import Primitives

/// Requests encoded once, as gRPC messages; the few bytes that differ are written over.
///
/// A put of 256 bytes costs a copy and the digits of its key this way, some tens of nanoseconds, so
/// that the generator's own work stays small beside the server's.
struct RequestTemplates: Sendable {
  /// One encoded request and where its key stands.
  struct Template: Sendable {
    var bytes: [UInt8]
    var keyOffset: Int
  }

  let keys: KeySpace
  private var puts: [Template]
  private var get: Template
  private var values: [[UInt8]]
  private var scratch: [UInt8] = []

  /// How long granted leases live.
  private let leaseSeconds: Int64

  init(keys: KeySpace, values: ValueSource, serializable: Bool, leaseSeconds: Int64 = 3_600) {
    self.keys = keys
    self.leaseSeconds = leaseSeconds
    self.values = values.values
    let key = keys.template
    puts = values.values.map { value in
      Self.template(key: key) { output, key in
        value.withUnsafeBytes { value in
          var put = PutRequest()
          put.key = key
          put.value = value
          put.append(to: &output)
        }
      }
    }
    get = Self.template(key: key) { output, key in
      var range = RangeRequest()
      range.key = key
      range.serializable = serializable
      range.append(to: &output)
    }
  }

  /// Encodes a message whose first field is the key, behind gRPC's prefix.
  private static func template(
    key: [UInt8], _ append: (inout [UInt8], UnsafeRawBufferPointer) -> Void
  ) -> Template {
    var message: [UInt8] = []
    key.withUnsafeBytes { append(&message, $0) }
    // The key is field 1: a tag, the length, the bytes.
    let keyOffset = GRPCMessage.prefixSize + 1 + varintSize(UInt64(key.count))
    return Template(bytes: GRPCMessage.framed(message), keyOffset: keyOffset)
  }

  /// Hands `body` a put of `key` with one of the values.
  mutating func withPut<Result>(
    key: UInt64, variant: Int, _ body: (UnsafeRawBufferPointer) throws -> Result
  ) rethrows -> Result {
    keys.write(key, into: &puts[variant].bytes, at: puts[variant].keyOffset)
    return try puts[variant].bytes.withUnsafeBytes(body)
  }

  /// Hands `body` a get of `key`.
  mutating func withGet<Result>(
    key: UInt64, _ body: (UnsafeRawBufferPointer) throws -> Result
  ) rethrows -> Result {
    keys.write(key, into: &get.bytes, at: get.keyOffset)
    return try get.bytes.withUnsafeBytes(body)
  }

  /// Hands `body` the grant of a lease.
  mutating func withGrant<Result>(
    lease: Int64, _ body: (UnsafeRawBufferPointer) throws -> Result
  ) rethrows -> Result {
    var request = LeaseGrantRequest()
    request.id = lease
    request.timeToLive = leaseSeconds
    return try withMessage(request, body)
  }

  mutating func withKeepAlive<Result>(
    lease: Int64, _ body: (UnsafeRawBufferPointer) throws -> Result
  ) rethrows -> Result {
    var request = LeaseKeepAliveRequest()
    request.id = lease
    return try withMessage(request, body)
  }

  /// Hands `body` a put of `key` that ends with `lease`.
  mutating func withPut<Result>(
    key number: UInt64, variant: Int, lease: Int64,
    _ body: (UnsafeRawBufferPointer) throws -> Result
  ) rethrows -> Result {
    let keyBytes = keys.key(number)
    return try keyBytes.withUnsafeBytes { key in
      try values[variant].withUnsafeBytes { value in
        var put = PutRequest()
        put.key = key
        put.value = value
        put.lease = lease
        return try withMessage(put, body)
      }
    }
  }

  /// Hands `body` a range over every key there is.
  mutating func withScan<Result>(
    serializable: Bool, _ body: (UnsafeRawBufferPointer) throws -> Result
  ) rethrows -> Result {
    let everything: [UInt8] = [0]
    return try everything.withUnsafeBytes { everything in
      var range = RangeRequest()
      range.key = everything
      range.rangeEnd = everything
      range.serializable = serializable
      return try withMessage(range, body)
    }
  }

  private mutating func withMessage<Result>(
    _ message: some WireMessage, _ body: (UnsafeRawBufferPointer) throws -> Result
  ) rethrows -> Result {
    scratch.removeAll(keepingCapacity: true)
    scratch.append(contentsOf: repeatElement(0, count: GRPCMessage.prefixSize))
    message.append(to: &scratch)
    GRPCMessage.writePrefix(into: &scratch)
    return try scratch.withUnsafeBytes(body)
  }

  /// Hands `body` what Kubernetes sends to update an object: if the key is still at `modRevision`, put
  /// it, else get it.
  mutating func withUpdate<Result>(
    key number: UInt64, variant: Int, modRevision: Int64,
    _ body: (UnsafeRawBufferPointer) throws -> Result
  ) rethrows -> Result {
    scratch.removeAll(keepingCapacity: true)
    scratch.append(contentsOf: repeatElement(0, count: GRPCMessage.prefixSize))
    let keyBytes = keys.key(number)
    keyBytes.withUnsafeBytes { key in
      var compare = Compare()
      compare.target = .modRevision
      compare.key = key
      compare.operand = .modRevision(modRevision)
      scratch.append(field: 1, message: compare)
      var put = PutRequest()
      put.key = key
      values[variant].withUnsafeBytes { value in
        put.value = value
        scratch.append(field: 2, message: RequestOp(.put(put)))
      }
      var get = RangeRequest()
      get.key = key
      scratch.append(field: 3, message: RequestOp(.range(get)))
    }
    GRPCMessage.writePrefix(into: &scratch)
    return try scratch.withUnsafeBytes(body)
  }

  /// How many different values there are.
  var variantCount: Int { values.count }

  /// Whether `value` is the variant's.
  func matches(_ value: UnsafeRawBufferPointer, variant: Int) -> Bool {
    values[variant].withUnsafeBytes { $0.hasSameBytes(as: value) }
  }
}

/// gRPC's framing of messages: a compression flag and the length, big-endian.
enum GRPCMessage {
  static let prefixSize = 5

  static func framed(_ message: [UInt8]) -> [UInt8] {
    var output = [UInt8](repeating: 0, count: prefixSize) + message
    writePrefix(into: &output)
    return output
  }

  /// Writes the prefix of the message that fills the rest of `output`.
  static func writePrefix(into output: inout [UInt8]) {
    let length = UInt32(output.count - prefixSize)
    output[0] = 0
    for index in 0..<4 {
      output[1 + index] = UInt8(truncatingIfNeeded: length >> UInt32(24 - 8 * index))
    }
  }

  /// The message of a response, if `data` holds exactly one uncompressed message.
  static func message(in data: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    guard data.count >= prefixSize, data[0] == 0 else { return nil }
    let length = (1...4).reduce(0) { $0 << 8 | Int(data[$1]) }
    guard data.count - prefixSize == length else { return nil }
    return UnsafeRawBufferPointer(rebasing: data[prefixSize...])
  }
}
