/// A named collection of keys and values in a database.
public struct BoltBucket {
  enum Root {
    case page(UInt64)
    /// The one page of a small bucket, which lies in its parent's.
    case inline([UInt8])
  }

  let database: BoltDatabase
  let root: Root

  /// The bucket's entries, in the order of their keys.
  public func entries() -> BoltCursor { BoltCursor(self) }
}

/// One key of a bucket.
public struct BoltEntry {
  public var key: ArraySlice<UInt8>
  /// A bucket's entry has a value of its own form; see `bucket`.
  public var value: ArraySlice<UInt8>
  let isBucket: Bool
  let database: BoltDatabase

  /// The bucket that has this key as its name.
  ///
  /// - Throws: `BoltError` where it is none.
  public var bucket: BoltBucket {
    get throws {
      let bytes = Array(value)
      guard isBucket, let page: UInt64 = bytes.integer(at: 0), bytes.count >= 16 else {
        throw BoltError("'\(String(decoding: key, as: UTF8.self))' is no bucket", page: nil)
      }
      return BoltBucket(
        database: database, root: page == 0 ? .inline(Array(bytes[16...])) : .page(page))
    }
  }
}

/// A walk through a bucket.
public struct BoltCursor {
  private let bucket: BoltBucket
  /// The pages from the root down to the current leaf, and which element of each comes next.
  private var path: [(page: BoltPage, next: Int)] = []
  private var hasStarted = false
  /// Bytes of pages visited so far: a tree that leads in circles would never come to an end.
  private var visited: UInt64 = 0
  private var lastKey: ArraySlice<UInt8>?

  init(_ bucket: BoltBucket) { self.bucket = bucket }

  /// The next entry; nil after the last.
  ///
  /// - Throws: `BoltError` where pages contradict themselves or each other, and what reading the file throws.
  public mutating func next() throws -> BoltEntry? {
    if !hasStarted {
      hasStarted = true
      switch bucket.root {
      case .page(let number): try descend(to: number)
      case .inline(let bytes):
        let page = try BoltPage(bytes, number: 0)
        guard page.kind == .leaf else { throw BoltError("an inline bucket is no leaf", page: nil) }
        path.append((page, 0))
      }
    }
    while let (page, next) = path.last {
      guard next < page.count else {
        path.removeLast()
        continue
      }
      path[path.count - 1].next += 1
      guard page.kind == .leaf else {
        try descend(to: page.child(next))
        continue
      }
      let (flags, key, value) = try page.entry(next)
      guard lastKey.map({ $0.lexicographicallyPrecedes(key) }) ?? true else {
        throw BoltError("keys of a bucket are out of order", page: nil)
      }
      lastKey = key
      return BoltEntry(key: key, value: value, isBucket: flags & 1 != 0, database: bucket.database)
    }
    return nil
  }

  private mutating func descend(to number: UInt64) throws {
    let page = try bucket.database.page(number)
    visited += UInt64(page.size)
    guard visited <= bucket.database.size, path.count < BoltDatabase.Limits.depth else {
      throw BoltError("pages of a bucket lead in circles", page: number)
    }
    path.append((page, 0))
  }
}
