/// gRPC's framing of messages in a stream's DATA: a flag byte, the length in four bytes, the message.
///
/// Nearly always a DATA frame holds whole messages, which are then handed out where they lie. Only
/// what crosses a frame's end is collected.
struct GRPCMessages {
  enum Fault: Error {
    case compressed
    case tooLarge(Int)
  }

  static let prefixSize = 5
  private var partial: [UInt8] = []

  var isEmpty: Bool { partial.isEmpty }
  /// Bytes that are collected.
  var count: Int { partial.count }

  /// Calls `body` for each message that is complete with `data`.
  mutating func receive(
    _ data: UnsafeRawBufferPointer, maxSize: Int, _ body: (UnsafeRawBufferPointer) -> Void
  ) -> Fault? {
    if partial.isEmpty {
      switch Self.split(data, maxSize: maxSize, body) {
      case .failure(let fault): return fault
      case .success(let used):
        if used < data.count { partial = Array(data[used...]) }
        return nil
      }
    }
    partial.append(contentsOf: data)
    // Collected messages are taken out before the user sees them, who may come back here.
    let whole = partial
    partial = []
    let result = whole.withUnsafeBytes { Self.split($0, maxSize: maxSize, body) }
    switch result {
    case .failure(let fault): return fault
    case .success(let used):
      partial = used == 0 ? whole : Array(whole[used...])
      return nil
    }
  }

  /// Hands out the whole messages in `data`; returns how many bytes they took.
  static func split(
    _ data: UnsafeRawBufferPointer, maxSize: Int, _ body: (UnsafeRawBufferPointer) -> Void
  ) -> Result<Int, Fault> {
    var offset = 0
    while data.count - offset >= prefixSize {
      if data[offset] != 0 { return .failure(.compressed) }
      let length = Int(loadBigEndian(data, at: offset + 1, as: UInt32.self))
      if length > maxSize { return .failure(.tooLarge(length)) }
      guard data.count - offset - prefixSize >= length else { break }
      let start = offset + prefixSize
      offset = start + length
      body(UnsafeRawBufferPointer(rebasing: data[start..<offset]))
    }
    return .success(offset)
  }

  /// Adds to what is collected without handing anything out.
  mutating func collect(_ data: UnsafeRawBufferPointer, maxSize: Int) -> Fault? {
    partial.append(contentsOf: data)
    guard partial.count >= Self.prefixSize else { return nil }
    if partial[0] != 0 { return .compressed }
    let length = partial.withUnsafeBytes { Int(loadBigEndian($0, at: 1, as: UInt32.self)) }
    return max(length, partial.count - Self.prefixSize) > maxSize
      ? .tooLarge(max(length, partial.count - Self.prefixSize)) : nil
  }

  /// Hands out what is collected if it is exactly one message.
  func withSingle(_ body: (UnsafeRawBufferPointer) -> Void) -> Bool {
    partial.withUnsafeBytes { bytes in
      guard let message = Self.single(bytes) else { return false }
      body(message)
      return true
    }
  }

  /// The one message that `data` is, if it is exactly one: the short way for unary calls.
  @inline(__always)
  static func single(_ data: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    guard data.count >= prefixSize, data[0] == 0,
      Int(loadBigEndian(data, at: 1, as: UInt32.self)) == data.count &- prefixSize
    else { return nil }
    return UnsafeRawBufferPointer(rebasing: data[prefixSize...])
  }

  /// Writes the five bytes before a message of `length` bytes.
  @inline(__always)
  static func writePrefix(_ length: Int, to start: UnsafeMutableRawPointer) {
    start.storeBytes(of: 0, as: UInt8.self)
    start.storeBytes(
      of: UInt32(truncatingIfNeeded: length).bigEndian, toByteOffset: 1, as: UInt32.self)
  }
}
