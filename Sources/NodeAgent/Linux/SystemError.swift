import Glibc

/// A call to the kernel that failed.
public struct SystemError: Error, Sendable, Hashable, CustomStringConvertible {
  /// What was tried, for people: `mount overlay`, `open`.
  public var operation: String
  /// The file, directory or program it concerned; empty if there is none.
  public var subject: String
  /// The kernel's error number.
  public var number: Int32

  public init(_ operation: String, _ subject: String = "", number: Int32 = errno) {
    self.operation = operation
    self.subject = subject
    self.number = number
  }

  public var description: String {
    let reason = strerror(number).map { String(cString: $0) } ?? "error \(number)"
    return subject.isEmpty ? "\(operation): \(reason)" : "\(operation) \(subject): \(reason)"
  }

  /// The result of a call that answers a negated errno (all of `CLinux` does), or the error it means.
  @discardableResult
  static func check(
    _ result: Int32, _ operation: String, _ subject: String = ""
  ) throws(SystemError) -> Int32 {
    guard result < 0 else { return result }
    throw SystemError(operation, subject, number: -result)
  }
}
