/// Stops the program if `condition` doesn't hold, in release builds too.
///
/// For what must be true whatever the input was: a broken invariant means that going on could lose or
/// falsify data. Bytes from disk, peers and clients never reach one; they are checked and refused.
@inlinable @inline(__always)
public func invariant(
  _ condition: @autoclosure () -> Bool, _ message: @autoclosure () -> String,
  file: StaticString = #fileID, line: UInt = #line
) {
  if !condition() { invariantFailure(message(), file: file, line: line) }
}

/// Stops the program, saying which invariant broke and where.
@inline(never)
public func invariantFailure(
  _ message: String, file: StaticString = #fileID, line: UInt = #line
) -> Never {
  fatalError("invariant broken: \(message)", file: file, line: line)
}
