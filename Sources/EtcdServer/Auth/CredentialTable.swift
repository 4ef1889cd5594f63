import Foundation
import MVCC

/// The credentials that came with calls of one event loop, by small numbers, so that a stream's tag can
/// name its own.
///
/// Bounded: when full it forgets all. The clients whose credentials are forgotten while a call is in flight
/// are told that they are invalid, and log in again.
struct CredentialTable {
  struct Entry {
    let credential: [UInt8]
    /// What a signed token was found to say, so that each is checked once.
    var verified: (caller: AuthCaller, expires: Date)?
  }
  private var numbers: [[UInt8]: UInt32] = [:]
  private var entries: [Entry] = []
  /// The number of the first entry. Zero stands for no credential.
  private var base: UInt32 = 1
  /// The number of a credential that is none.
  static let invalid = UInt32.max

  mutating func number(of credential: UnsafeRawBufferPointer) -> UInt32 {
    guard credential.count <= EtcdServerLimits.credentialBytes else { return Self.invalid }
    let key = [UInt8](credential)
    if let number = numbers[key] { return number }
    if entries.count >= EtcdServerLimits.credentials {
      base = base < 1 << 31 ? base + UInt32(entries.count) : 1
      entries.removeAll(keepingCapacity: true)
      numbers.removeAll(keepingCapacity: true)
    }
    let number = base + UInt32(entries.count)
    entries.append(Entry(credential: key))
    numbers[key] = number
    return number
  }

  /// The entry with a number, if it isn't forgotten.
  subscript(number: UInt32) -> Entry? {
    get {
      guard number >= base, Int(number - base) < entries.count else { return nil }
      return entries[Int(number - base)]
    }
    set {
      guard number >= base, Int(number - base) < entries.count, let newValue else { return }
      entries[Int(number - base)] = newValue
    }
  }
}
