import EtcdWire
import Primitives

/// Half-open ranges of keys, each with some payload, found by a key that they contain.
///
/// A treap (a search tree by `(start, end)`, kept balanced by random priorities) in which each node
/// also knows the highest end below it: a subtree whose ranges all end at or before the key is not
/// entered. Finding m ranges among n takes O(log n + m log n) at worst, and close to O(log n + m)
/// for the prefixes and single keys that clients watch. Nodes lie in an array and point to each
/// other by index; priorities come from a seeded source, so that equal histories give equal trees.
struct IntervalIndex {
  /// A range's bounds. No end means no upper bound.
  struct Bounds: Hashable {
    var start: [UInt8]
    var end: [UInt8]?

    /// The keys that a watcher means; nil if there are none.
    init?(_ range: WatchRange) {
      start = range.key
      if range.rangeEnd.isEmpty {
        // A single key: from the key to its immediate successor.
        end = range.key + [0]
      } else if range.rangeEnd == [0] {
        end = nil
      } else {
        end = range.rangeEnd
        if !Bounds.precedes(range.key, range.rangeEnd) { return nil }
      }
    }

    static func precedes(_ left: [UInt8], _ right: [UInt8]) -> Bool {
      left.withUnsafeBytes { left in right.withUnsafeBytes { left.precedes($0) } }
    }

    static func == (left: Bounds, right: Bounds) -> Bool {
      left.start == right.start && left.end == right.end
    }

    /// By start, then by end.
    func precedes(_ other: Bounds) -> Bool {
      if start != other.start { return Bounds.precedes(start, other.start) }
      return Bounds.endPrecedes(end, other.end)
    }

    /// Whether one end lies before another; no end lies behind all.
    static func endPrecedes(_ left: [UInt8]?, _ right: [UInt8]?) -> Bool {
      guard let left else { return false }
      guard let right else { return true }
      return precedes(left, right)
    }
  }

  private struct Node {
    let bounds: Bounds
    let priority: UInt64
    /// Groups of watchers with these bounds; never empty.
    var groups: [Int]
    var left = none
    var right = none
    /// The node, here or below, whose range ends last.
    var lastEnd: Int
  }

  private static let none = -1
  private var nodes: [Node] = []
  private var freeNodes: [Int] = []
  private var top = none
  private var random = RandomSource(seed: 0x6D61_7274_6C65_74)

  /// How many different bounds there are.
  var count: Int { nodes.count - freeNodes.count }

  // MARK: Changing

  mutating func insert(_ bounds: Bounds, _ group: Int) {
    if let existing = find(bounds) {
      nodes[existing].groups.append(group)
      return
    }
    let (lower, upper) = split(top, bounds)
    let node = makeNode(bounds, group)
    top = join(join(lower, node), upper)
  }

  mutating func remove(_ bounds: Bounds, _ group: Int) {
    guard let node = find(bounds) else { return }
    nodes[node].groups.removeAll { $0 == group }
    if nodes[node].groups.isEmpty {
      top = remove(node, below: top)
      nodes[node] = Node(bounds: bounds, priority: 0, groups: [], lastEnd: node)
      freeNodes.append(node)
    }
  }

  private mutating func makeNode(_ bounds: Bounds, _ group: Int) -> Int {
    let index = freeNodes.popLast() ?? nodes.count
    let node = Node(bounds: bounds, priority: random.next(), groups: [group], lastEnd: index)
    if index == nodes.count { nodes.append(node) } else { nodes[index] = node }
    return index
  }

  private func find(_ bounds: Bounds) -> Int? {
    var node = top
    while node != IntervalIndex.none {
      if nodes[node].bounds == bounds { return node }
      node = bounds.precedes(nodes[node].bounds) ? nodes[node].left : nodes[node].right
    }
    return nil
  }

  /// Splits a subtree into what lies before `bounds` and the rest. As deep as the tree.
  private mutating func split(_ node: Int, _ bounds: Bounds) -> (Int, Int) {
    if node == IntervalIndex.none { return (node, node) }
    if nodes[node].bounds.precedes(bounds) {
      let (lower, upper) = split(nodes[node].right, bounds)
      nodes[node].right = lower
      update(node)
      return (node, upper)
    }
    let (lower, upper) = split(nodes[node].left, bounds)
    nodes[node].left = upper
    update(node)
    return (lower, node)
  }

  /// Joins two subtrees of which the first lies wholly before the second.
  private mutating func join(_ lower: Int, _ upper: Int) -> Int {
    if lower == IntervalIndex.none { return upper }
    if upper == IntervalIndex.none { return lower }
    if nodes[lower].priority > nodes[upper].priority {
      let right = join(nodes[lower].right, upper)
      nodes[lower].right = right
      update(lower)
      return lower
    }
    let left = join(lower, nodes[upper].left)
    nodes[upper].left = left
    update(upper)
    return upper
  }

  private mutating func remove(_ target: Int, below node: Int) -> Int {
    if node == target { return join(nodes[node].left, nodes[node].right) }
    if nodes[target].bounds.precedes(nodes[node].bounds) {
      nodes[node].left = remove(target, below: nodes[node].left)
    } else {
      nodes[node].right = remove(target, below: nodes[node].right)
    }
    update(node)
    return node
  }

  private mutating func update(_ node: Int) {
    var last = node
    for child in [nodes[node].left, nodes[node].right] where child != IntervalIndex.none {
      let candidate = nodes[child].lastEnd
      if Bounds.endPrecedes(nodes[last].bounds.end, nodes[candidate].bounds.end) {
        last = candidate
      }
    }
    nodes[node].lastEnd = last
  }

  // MARK: Finding

  /// Calls `body` with each group whose range contains `key`, in the order of bounds.
  func forEachGroup(containing key: UnsafeRawBufferPointer, _ body: (Int) -> Void) {
    visit(top, key, body)
  }

  private func visit(_ node: Int, _ key: UnsafeRawBufferPointer, _ body: (Int) -> Void) {
    if node == IntervalIndex.none { return }
    guard endsBehind(nodes[node].lastEnd, key) else { return }
    visit(nodes[node].left, key, body)
    let startsBefore = nodes[node].bounds.start.withUnsafeBytes { !key.precedes($0) }
    if !startsBefore { return }
    if endsBehind(node, key) {
      for group in nodes[node].groups { body(group) }
    }
    visit(nodes[node].right, key, body)
  }

  private func endsBehind(_ node: Int, _ key: UnsafeRawBufferPointer) -> Bool {
    nodes[node].bounds.end.map { end in end.withUnsafeBytes { key.precedes($0) } } ?? true
  }
}
