import EtcdWire
import Primitives

extension StoreView {
  /// Cuts the response to a range request into pieces, for `RangeStream`.
  ///
  /// The order is that of keys; filters, sorting and `countOnly` are not looked at, and a server
  /// refuses them. All pieces show the same revision.
  ///
  /// - Throws: `.compacted` or `.futureRevision` for a revision that can't be read.
  public func pager(_ request: RangeRequest) throws(ApplyError) -> RangePager {
    defer { withExtendedLifetime(published) {} }
    let revision = try root.readableRevision(request.revision, current: root.revision)
    return RangePager(view: self, request, at: revision)
  }
}

/// The pieces of one large range. Holds the view until it is done with.
public struct RangePager: Sendable {
  private let view: StoreView
  /// Where the next piece begins.
  private var key: [UInt8]
  private let rangeEnd: [UInt8]
  private let revision: Int64
  private let keysOnly: Bool
  /// How many records may still be sent.
  private var left: Int
  private var count = 0
  private var isFirst = true
  private var isDone = false

  fileprivate init(view: StoreView, _ request: RangeRequest, at revision: Int64) {
    self.view = view
    self.revision = revision
    key = [UInt8](request.key)
    rangeEnd = [UInt8](request.rangeEnd)
    keysOnly = request.keysOnly
    left = request.limit > 0 ? Int(clamping: request.limit) : .max
  }

  /// Appends the next piece: `RangeResponse` records of about `byteLimit` bytes, at least one. The
  /// last piece ends with `more` and `count`.
  ///
  /// - Returns: false with the last piece, and after it.
  public mutating func next(byteLimit: Int, into output: inout [UInt8]) -> Bool {
    if isDone { return false }
    defer { withExtendedLifetime(view.published) {} }
    let start = output.count
    var after: Record?
    let hasMore = key.withUnsafeBytes { key in
      rangeEnd.withUnsafeBytes { rangeEnd in
        let range = KeyRange(key: key, rangeEnd: rangeEnd)
        if isFirst {
          count = countAll(range)
          isFirst = false
        }
        if range.isSingleKey {
          if let record = view.root.record(key, at: revision) {
            RangeResponse.append(
              encodedKeyValue: record.encoded(keysOnly: keysOnly), to: &output)
          }
          return false
        }
        var walk = RevisionWalk(view.root, range, at: revision)
        while let record = walk.next() {
          if left == 0 { return true }
          if output.count > start && output.count - start >= byteLimit {
            after = record
            return true
          }
          RangeResponse.append(
            encodedKeyValue: record.encoded(keysOnly: keysOnly), to: &output)
          left -= 1
        }
        return false
      }
    }
    if let after {
      key = [UInt8](after.key)
      return true
    }
    isDone = true
    RangeResponse.appendTail(more: hasMore, count: Int64(count), to: &output)
    return false
  }

  private func countAll(_ range: KeyRange) -> Int {
    let root = view.root
    if revision == root.revision { return root.count(range) }
    if range.isSingleKey { return root.record(range.key, at: revision) == nil ? 0 : 1 }
    var count = 0
    var walk = RevisionWalk(root, range, at: revision)
    while walk.next() != nil { count += 1 }
    return count
  }
}
