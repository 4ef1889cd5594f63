/// Indexes of an Indexed Job, as its status tells them: `0-2,5,7,8`.
struct JobIndexes: Equatable, CustomStringConvertible {
  private(set) var members: Set<Int64> = []

  init(_ members: Set<Int64> = []) { self.members = members }

  /// Reads the text of a status. What isn't one, or lies beyond `limit`, counts for nothing.
  init(_ text: String, below limit: Int64) {
    for part in text.split(separator: ",") {
      let ends = part.split(separator: "-").compactMap { Int64($0) }
      guard let first = ends.first, let last = ends.last, first >= 0, first <= last, last < limit
      else { continue }
      members.formUnion(first...last)
    }
  }

  var count: Int64 { Int64(members.count) }
  func contains(_ index: Int64) -> Bool { members.contains(index) }
  mutating func insert(_ index: Int64) { members.insert(index) }

  /// Runs of three and more as a range, as Kubernetes writes them.
  var description: String {
    var parts: [String] = []
    let sorted = members.sorted()
    var start = 0
    while start < sorted.count {
      var end = start
      while end + 1 < sorted.count, sorted[end + 1] == sorted[end] + 1 { end += 1 }
      switch end - start {
      case 0: parts.append("\(sorted[start])")
      case 1: parts += ["\(sorted[start])", "\(sorted[end])"]
      default: parts.append("\(sorted[start])-\(sorted[end])")
      }
      start = end + 1
    }
    return parts.joined(separator: ",")
  }
}
