/// A message as a view over borrowed bytes, and as something that can be written.
public protocol WireMessage {
  /// The message with every field at its default.
  init()

  /// Reads further fields into the message, as protobuf merges: scalars are replaced, messages merged,
  /// repeated fields appended.
  ///
  /// - Throws: `WireError`, leaving the message in an unspecified but harmless state.
  mutating func merge(_ bytes: UnsafeRawBufferPointer, _ nesting: Nesting) throws(WireError)

  /// Appends the encoding: known fields in ascending order, defaults left out.
  func append(to output: inout [UInt8])

  /// True if fields were skipped, here or in a message within, that this version does not know.
  var hasUnknownFields: Bool { get }
}

extension WireMessage {
  /// Reads a message. The view borrows `bytes` and must not outlive them.
  ///
  /// O(bytes), without allocation.
  public init(_ bytes: UnsafeRawBufferPointer) throws(WireError) {
    self.init()
    try merge(bytes, .outermost)
  }

  /// The encoded message.
  public func encoded() -> [UInt8] {
    var output: [UInt8] = []
    append(to: &output)
    return output
  }
}

/// How deep a message stands in others, and whether those it contains still need checking.
public struct Nesting: Sendable {
  /// How many levels may follow.
  var remaining: Int
  /// False where the bytes were checked before: then only the message's own level is read, so that
  /// walking a deep transaction level by level costs O(bytes), not O(bytes x depth).
  var checksContents: Bool

  /// A message that stands in no other.
  public static let outermost = Nesting(
    remaining: WireLimits.nestedTransactions, checksContents: true)
  static let checked = Nesting(remaining: WireLimits.nestedTransactions, checksContents: false)

  /// The nesting of a message within.
  func inner() throws(WireError) -> Nesting {
    guard remaining > 0 else { throw .nestedTooDeep }
    return Nesting(remaining: remaining - 1, checksContents: checksContents)
  }
}

/// The occurrences of a repeated message field, read as they are walked through.
///
/// All of them were checked when the message was read, so iteration cannot fail.
public struct RepeatedField<Element: WireMessage>: Sequence {
  /// From the first occurrence's tag to the last one's end; fields between them may be others'.
  @usableFromInline var bytes: UnsafeRawBufferPointer
  /// The tag that marks an occurrence.
  @usableFromInline let tag: UInt32
  /// How many occurrences there are.
  public internal(set) var count: Int

  @usableFromInline init(field: UInt32) {
    bytes = .none
    tag = field << 3 | 2
    count = 0
  }

  public var isEmpty: Bool { count == 0 }

  /// The first occurrence.
  public var first: Element? {
    var iterator = makeIterator()
    return iterator.next()
  }

  public var underestimatedCount: Int { count }

  public func makeIterator() -> Iterator { Iterator(reader: FieldReader(bytes), tag: tag) }

  public struct Iterator: IteratorProtocol {
    var reader: FieldReader
    let tag: UInt32

    public mutating func next() -> Element? {
      // The bytes were checked, so nothing throws here; should a caller have changed them since, the
      // walk ends instead of trapping.
      do throws(WireError) {
        while try reader.next() {
          if reader.tag == tag {
            var element = Element()
            try element.merge(try reader.bytes(), .checked)
            return element
          }
          try reader.skip()
        }
      } catch {}
      return nil
    }
  }

  /// Takes up the occurrence that `reader` stands at, checking it.
  ///
  /// - Returns: whether it holds unknown fields.
  mutating func add(_ reader: inout FieldReader, _ nesting: Nesting) throws(WireError) {
    let start = reader.fieldStart
    let content = try reader.bytes()
    if nesting.checksContents {
      var element = Element()
      try element.merge(content, nesting)
      if element.hasUnknownFields { reader.sawUnknown = true }
    }
    if count == 0 {
      bytes = UnsafeRawBufferPointer(rebasing: reader.base[start..<reader.offset])
    } else {
      // Extend the slice to this occurrence's end; it lies in the same message, since messages with
      // repeated fields are never merged from two pieces (`WireError.splitMessage`).
      let first = bytes.baseAddress! - reader.base.baseAddress!
      bytes = UnsafeRawBufferPointer(rebasing: reader.base[first..<reader.offset])
    }
    count += 1
  }

  func append(to output: inout [UInt8]) {
    for element in self { output.append(field: tag >> 3, message: element) }
  }
}
