import Primitives

/// Why bytes are not what this module writes. The bytes can only be refused: a peer that sends such ones
/// is broken or newer, and its connection should be closed.
public struct RaftDecodingError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Code: Hashable, Sendable {
    /// Written by a later version of the format.
    case unsupportedVersion(UInt8)
    /// A kind, flag or padding that this version does not know.
    case unknownField
    /// The bytes ended inside a value.
    case truncated
    /// Bytes are left over after the last value.
    case trailingBytes
    /// A number outside its bounds, or numbers that contradict each other.
    case outOfRange
  }
  public var code: Code
  /// Where, in bytes from the start.
  public var offset: Int

  public init(_ code: Code, offset: Int) {
    self.code = code
    self.offset = offset
  }

  init(_ error: ByteReaderError) {
    self.init(error.code == .truncated ? .truncated : .outOfRange, offset: error.offset)
  }

  public var description: String { "\(code) at byte \(offset)" }
}

/// The reading rules shared by this module's formats: fixed-width integers, every bit accounted for.
struct CheckedReader {
  private var reader: ByteReader
  init(_ bytes: UnsafeRawBufferPointer) { reader = ByteReader(bytes) }

  var remaining: Int { reader.remaining }

  func failure(_ code: RaftDecodingError.Code) -> RaftDecodingError {
    RaftDecodingError(code, offset: reader.offset)
  }

  mutating func integer<Value: FixedWidthInteger>(
    _ type: Value.Type = Value.self
  ) throws(RaftDecodingError) -> Value {
    do { return try reader.read(type) } catch { throw RaftDecodingError(error) }
  }

  /// An index, term or round. Those stay below 2^63, so that adding a count to one can't overflow.
  mutating func counter() throws(RaftDecodingError) -> UInt64 {
    let value = try integer(UInt64.self)
    guard value <= UInt64(Int64.max) else { throw failure(.outOfRange) }
    return value
  }

  mutating func logIndex() throws(RaftDecodingError) -> LogIndex { LogIndex(try counter()) }
  mutating func term() throws(RaftDecodingError) -> Term { Term(try counter()) }

  mutating func bytes(_ count: Int) throws(RaftDecodingError) -> UnsafeRawBufferPointer {
    do { return try reader.readBytes(count) } catch { throw RaftDecodingError(error) }
  }

  /// A u32 length and that many bytes.
  mutating func payload() throws(RaftDecodingError) -> [UInt8] {
    [UInt8](try bytes(Int(try integer(UInt32.self))))
  }

  mutating func version(_ expected: UInt8) throws(RaftDecodingError) {
    let found = try integer(UInt8.self)
    guard found == expected else {
      throw RaftDecodingError(.unsupportedVersion(found), offset: reader.offset - 1)
    }
  }

  mutating func zero<Value: FixedWidthInteger>(_ type: Value.Type) throws(RaftDecodingError) {
    guard try integer(type) == 0 else { throw failure(.unknownField) }
  }

  func end() throws(RaftDecodingError) {
    guard reader.isAtEnd else { throw failure(.trailingBytes) }
  }
}
