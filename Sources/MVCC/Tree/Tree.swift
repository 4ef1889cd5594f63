import EtcdWire
import Primitives

// The persistent B-tree
// =====================
//
// Everything the store keeps is in four trees of one kind, whose elements are pointers:
//
// | tree | elements | ordered by | |
// |---|---|---|---|
// | live | the newest record of each key that exists | key | unique |
// | history | superseded records and tombstones, down to the last compaction | key, then mod revision | repeats possible |
// | events | the records of all events since the last compaction | mod revision | appended only |
// | leases | lease entries, each with a tree (key, unique) of its keys' live records | id | unique |
//
// The tree is a B+-tree: elements stand in leaves, and an inner node's entry has the first element
// below a child and the number of elements there, so that ranks, and with them the count of any
// range, take O(log n). A tree value is its root and nothing else: copying it is copying a pointer,
// and that is what a view of the store is. Nodes of older epochs are never changed but copied, from
// the changed leaf up to the root (`Arena` explains epochs, and how memory comes back). A batch of
// commands copies each node it touches once, so the upper levels' copies are shared by the whole
// batch.
//
// A worked example. Root R over leaves L1 [a c] and L2 [m q], published. `put d` in the next epoch
// makes L1' [a c d] and R' over L1' and L2; R and L1 are retired. `put e` then changes L1' and R'
// in place.
//
// Splitting. A full node is split in the middle; but where the entry goes to the end of the last
// node of its level, all stay and the new node holds the new entry alone, so that ever-growing keys
// (and the tree of events) leave full nodes behind. Where it goes to the end of another node, a
// quarter moves: keys that grow within a directory are the second most common pattern there is.
//
// What is left out: parent and sibling pointers, which copying can't afford (cursors keep their
// path), and bulk deletion, which would have to look at each record anyway.

/// How a tree's elements are ordered.
enum TreeOrder: UInt8 {
  /// Records by key, each key once.
  case key
  /// Records by key and mod revision; equal ones in the order of their insertion.
  case version
  /// Anything by a word that the tree keeps in its heads, each word once.
  case lease
  /// Anything by a word, in the order of insertion.
  case event

  /// Whether heads are whole words and elements are never looked at.
  @inline(__always) var hasWords: Bool { self == .lease || self == .event }
  /// Whether no two elements are equal, so that an inner entry equal to the key leads to it.
  @inline(__always) var isUnique: Bool { self == .key || self == .lease }
}

/// What is searched for.
struct TreeKey {
  /// The key, for trees of records.
  let bytes: UnsafeRawBufferPointer
  /// The mod revision in `.version` trees, the word in `.lease` and `.event` trees.
  let word: UInt64

  @inline(__always) init(_ bytes: UnsafeRawBufferPointer) {
    self.bytes = bytes
    self.word = 0
  }

  /// Of a key's versions the first with at least this mod revision.
  @inline(__always) init(_ bytes: UnsafeRawBufferPointer, revision: Int64) {
    self.bytes = bytes
    self.word = UInt64(bitPattern: revision)
  }

  @inline(__always) init(word: UInt64) {
    self.bytes = UnsafeRawBufferPointer(start: nil, count: 0)
    self.word = word
  }
}

/// A persistent B-tree, by its root. See the essay above; `Arena` owns the nodes.
struct Tree {
  let order: TreeOrder
  /// Nil if the tree is empty. The root alone may have fewer than `Node.minimum` entries.
  var root: Node?

  /// The longest path. With at least 16 entries below each entry but those of the right edge,
  /// twelve levels hold more elements than memory does.
  static let maximumDepth = 12

  init(order: TreeOrder, root: Node? = nil) {
    self.order = order
    self.root = root
  }

  var isEmpty: Bool { root == nil }
  /// The number of elements. O(1).
  var count: Int { root?.total ?? 0 }
}

// MARK: Searching

extension Tree {
  /// The first entry of a node at or above a key, and whether it equals the key.
  @inline(__always)
  static func lowerBound(_ node: Node, _ key: TreeKey, _ order: TreeOrder) -> (Int, Bool) {
    let count = node.count
    if order.hasWords {
      let index = lowerBound(node.heads, 0, count, key.word)
      return (index, index < count && node.heads[index] == key.word)
    }
    let length = node.prefixLength
    if length > 0 {
      let shared = min(length, key.bytes.count)
      let difference = compare(key.bytes, node.prefix, shared)
      if difference < 0 { return (0, false) }
      if difference > 0 { return (count, false) }
      // The prefix begins with the whole key: every key here is longer, so above.
      if shared < length { return (0, false) }
    }
    let head = Node.head(of: key.bytes, at: length)
    let index = lowerBound(node.heads, 0, count, head)
    if index == count || node.heads[index] != head { return (index, false) }
    return lowerBoundByElement(node, index, head, key, order)
  }

  /// Among the entries from `first` on whose heads equal the key's, the search goes by elements.
  private static func lowerBoundByElement(
    _ node: Node, _ first: Int, _ head: UInt64, _ key: TreeKey, _ order: TreeOrder
  ) -> (Int, Bool) {
    var low = first
    var high = node.count
    if first &+ 1 == high || node.heads[first &+ 1] != head {
      high = first &+ 1
    } else {
      var end = first &+ 1
      // Above every equal head.
      if head < .max { end = lowerBound(node.heads, end, high, head &+ 1) } else { end = high }
      high = end
    }
    var isEqual = false
    while low < high {
      let middle = (low &+ high) >> 1
      let difference = compare(Record(address: node.slots[middle]), key, order)
      if difference < 0 {
        low = middle &+ 1
      } else {
        high = middle
        isEqual = difference == 0
      }
    }
    return (low, isEqual)
  }

  /// Negative, zero or positive as the record is below, equal to or above the key.
  @inline(__always)
  private static func compare(_ record: Record, _ key: TreeKey, _ order: TreeOrder) -> Int {
    let difference = record.key.compareBytes(key.bytes)
    if difference != 0 || order == .key { return difference }
    let revision = UInt64(bitPattern: record.modRevision)
    return revision < key.word ? -1 : revision == key.word ? 0 : 1
  }

  /// Compares `count` bytes, of which both have that many.
  @inline(__always)
  private static func compare(
    _ key: UnsafeRawBufferPointer, _ prefix: UnsafeMutableRawPointer, _ count: Int
  ) -> Int {
    var offset = 0
    while offset &+ 8 <= count {
      let left = key.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
      let right = prefix.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
      if left != right { return left.bigEndian < right.bigEndian ? -1 : 1 }
      offset &+= 8
    }
    while offset < count {
      let left = key[offset]
      let right = prefix.load(fromByteOffset: offset, as: UInt8.self)
      if left != right { return left < right ? -1 : 1 }
      offset &+= 1
    }
    return 0
  }

  /// The first of `words[low..<high]` that is at least `word`; `high` if there is none.
  @inline(__always)
  private static func lowerBound(
    _ words: UnsafeMutablePointer<UInt64>, _ low: Int, _ high: Int, _ word: UInt64
  ) -> Int {
    var base = low
    var length = high &- low
    // No branch depends on the data: the compiler makes a conditional move of it.
    while length > 1 {
      let half = length >> 1
      base = words[base &+ half &- 1] < word ? base &+ half : base
      length &-= half
    }
    return length == 1 && words[base] < word ? base &+ 1 : base
  }

  /// The child to descend into for the first element at or above a key.
  @inline(__always)
  static func childIndex(_ node: Node, _ key: TreeKey, _ order: TreeOrder) -> Int {
    let (index, isEqual) = lowerBound(node, key, order)
    if isEqual && order.isUnique { return index }
    // Among equal elements the first may stand at the end of the child before.
    return index > 0 ? index &- 1 : 0
  }

  /// The element equal to a key. For unique orders. O(log n).
  @inline(__always)
  func find(_ key: TreeKey) -> UnsafeMutableRawPointer? {
    guard var node = root else { return nil }
    while node.height > 0 { node = node.children[Tree.childIndex(node, key, order)] }
    let (index, isEqual) = Tree.lowerBound(node, key, order)
    return isEqual ? node.slots[index] : nil
  }

  /// How many elements are below a key. O(log n).
  func rank(_ key: TreeKey) -> Int {
    guard var node = root else { return 0 }
    var rank = 0
    while node.height > 0 {
      let child = Tree.childIndex(node, key, order)
      for index in 0..<child { rank &+= Int(node.totals[index]) }
      node = node.children[child]
    }
    return rank &+ Tree.lowerBound(node, key, order).0
  }

  /// The first element at or above a key; past the end if there is none. O(log n).
  func seek(_ key: TreeKey) -> TreeCursor {
    var cursor = descend(to: key).0
    cursor.normalize()
    return cursor
  }

  /// The place in a leaf where a key is or would stand, and whether it is there.
  ///
  /// The place may be behind a leaf's last entry, for that is where an insertion goes.
  @inline(__always)
  func descend(to key: TreeKey) -> (TreeCursor, Bool) {
    var cursor = TreeCursor()
    guard var node = root else { return (cursor, false) }
    while node.height > 0 {
      let index = Tree.childIndex(node, key, order)
      cursor.push(node, index)
      node = node.children[index]
    }
    let (index, isEqual) = Tree.lowerBound(node, key, order)
    cursor.push(node, index)
    return (cursor, isEqual)
  }

  /// The element with `rank` elements before it; past the end if there are fewer. O(log n).
  func element(atRank rank: Int) -> TreeCursor {
    guard var node = root, rank < count else { return pastTheEnd() }
    var cursor = TreeCursor()
    var left = rank
    while node.height > 0 {
      var child = 0
      while left >= Int(node.totals[child]) {
        left &-= Int(node.totals[child])
        child &+= 1
      }
      cursor.push(node, child)
      node = node.children[child]
    }
    cursor.push(node, left)
    return cursor
  }

  /// The first element. O(log n).
  func first() -> TreeCursor {
    var cursor = TreeCursor()
    guard var node = root else { return cursor }
    while node.height > 0 {
      cursor.push(node, 0)
      node = node.children[0]
    }
    cursor.push(node, 0)
    return cursor
  }
}

// MARK: Walking

extension Tree {
  /// Behind the last element.
  func pastTheEnd() -> TreeCursor {
    var cursor = TreeCursor()
    guard var node = root else { return cursor }
    while node.height > 0 {
      cursor.push(node, node.count &- 1)
      node = node.children[node.count &- 1]
    }
    cursor.push(node, node.count)
    return cursor
  }

  /// Calls `body` with each element, in order.
  func forEachElement(_ body: (UnsafeMutableRawPointer) -> Void) {
    var cursor = first()
    while let element = cursor.element {
      body(element)
      cursor.advance()
    }
  }

  /// Calls `body` with each node, children before their parents, so that it may free them. The
  /// recursion is as deep as the tree is high.
  func forEachNode(_ body: (Node) -> Void) {
    func visit(_ node: Node) {
      if !node.isLeaf {
        for index in 0..<node.count { visit(node.children[index]) }
      }
      body(node)
    }
    if let root { visit(root) }
  }
}

/// A place in a tree: the path from the root to an entry of a leaf.
///
/// A cursor owns nothing. It is valid as long as the tree it came from is neither changed in place
/// nor freed.
struct TreeCursor {
  struct Step {
    var node: Node
    var index: Int
  }

  /// The steps from the root down; those from `depth` on mean nothing.
  private var steps: InlineArray<12, Step>
  /// Steps in use; 0 in an empty tree.
  private(set) var depth = 0

  @inline(__always) init() {
    // The address of steps not in use is never followed.
    steps = .init(repeating: Step(node: Node(address: TreeCursor.nowhere), index: 0))
  }

  private static var nowhere: UnsafeMutableRawPointer {
    UnsafeMutableRawPointer(bitPattern: 8).unsafelyUnwrapped
  }

  @inline(__always) mutating func push(_ node: Node, _ index: Int) {
    invariant(depth < Tree.maximumDepth, "a tree higher than can be")
    steps[depth] = Step(node: node, index: index)
    depth &+= 1
  }

  /// The step at `level`, counted from the root.
  @inline(__always) subscript(level: Int) -> Step {
    get { steps[level] }
    set { steps[level] = newValue }
  }

  /// The element here; nil past the end.
  @inline(__always) var element: UnsafeMutableRawPointer? {
    guard depth > 0 else { return nil }
    let step = steps[depth &- 1]
    return step.index < step.node.count ? step.node.slots[step.index] : nil
  }

  /// The record here, in trees of records.
  @inline(__always) var record: Record? { element.map { Record(address: $0) } }

  /// The rest of this leaf, from here on.
  @inline(__always) var leafRest: UnsafeBufferPointer<UnsafeMutableRawPointer> {
    guard depth > 0 else { return UnsafeBufferPointer(start: nil, count: 0) }
    let step = steps[depth &- 1]
    return UnsafeBufferPointer(
      start: step.node.slots + step.index, count: step.node.count &- step.index)
  }

  /// Moves behind the last entry of a leaf to the next leaf's first, if there is one.
  @inline(__always) mutating func normalize() {
    guard depth > 0 else { return }
    let step = steps[depth &- 1]
    if step.index >= step.node.count { climb() }
  }

  /// Moves to the next element.
  @inline(__always) mutating func advance() {
    guard depth > 0 else { return }
    steps[depth &- 1].index &+= 1
    normalize()
  }

  /// Moves to the next leaf's first element, or past the end.
  mutating func advanceLeaf() {
    guard depth > 0 else { return }
    steps[depth &- 1].index = steps[depth &- 1].node.count
    climb()
  }

  /// From a leaf's end to the first entry of the next leaf; stays where there is none.
  private mutating func climb() {
    var level = depth &- 2
    while level >= 0 {
      if steps[level].index &+ 1 < steps[level].node.count {
        steps[level].index &+= 1
        var node = steps[level].node.children[steps[level].index]
        level &+= 1
        while level < depth &- 1 {
          steps[level] = Step(node: node, index: 0)
          node = node.children[0]
          level &+= 1
        }
        steps[level] = Step(node: node, index: 0)
        return
      }
      level &-= 1
    }
  }

  /// Moves to the element before; false, staying, if this is the first or the tree is empty.
  mutating func retreat() -> Bool {
    guard depth > 0 else { return false }
    if steps[depth &- 1].index > 0 {
      steps[depth &- 1].index &-= 1
      return true
    }
    var level = depth &- 2
    while level >= 0 {
      if steps[level].index > 0 {
        steps[level].index &-= 1
        var node = steps[level].node.children[steps[level].index]
        level &+= 1
        while level < depth &- 1 {
          steps[level] = Step(node: node, index: node.count &- 1)
          node = node.children[node.count &- 1]
          level &+= 1
        }
        steps[level] = Step(node: node, index: node.count &- 1)
        return true
      }
      level &-= 1
    }
    return false
  }
}
