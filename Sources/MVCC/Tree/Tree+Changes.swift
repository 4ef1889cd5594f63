import Primitives

// Changes of a tree. Each takes a cursor that `descend` made in this very tree, copies what isn't
// of this epoch along its path, and leaves every cursor invalid.

extension Tree {
  /// Puts `element` in place of the one at `cursor`, which is equal to it.
  @inline(__always)
  mutating func replace(
    at cursor: inout TreeCursor, with element: UnsafeMutableRawPointer, _ arena: Arena
  ) {
    makeWritable(&cursor, arena)
    let leaf = cursor[cursor.depth &- 1]
    leaf.node.slots[leaf.index] = element
    if leaf.index == 0 && !order.hasWords {
      // The entry above that names the first element here must name the new one. Its key and so its
      // head are the same.
      var level = cursor.depth &- 2
      while level >= 0 {
        let step = cursor[level]
        step.node.slots[step.index] = element
        if step.index > 0 { break }
        level &-= 1
      }
    }
  }

  /// Inserts a record before the place at `cursor`.
  mutating func insert(
    at cursor: inout TreeCursor, _ element: UnsafeMutableRawPointer, key: TreeKey, _ arena: Arena
  ) {
    guard root != nil else {
      let leaf = arena.makeNode(height: 0)
      leaf.heads[0] = order.hasWords ? key.word : leaf.headForEntry(key.bytes)
      leaf.slots[0] = element
      leaf.count = 1
      leaf.total = 1
      root = leaf
      return
    }
    makeWritable(&cursor, arena)
    var level = cursor.depth &- 1

    // The leaf, split first if it is full.
    var step = cursor[level]
    var sibling: Node?
    if step.node.count == Node.capacity {
      (step, sibling) = split(step, isLast: isLast(cursor, level), arena)
    }
    let head = order.hasWords ? key.word : step.node.headForEntry(key.bytes)
    step.node.openGap(at: step.index)
    step.node.heads[step.index] = head
    step.node.slots[step.index] = element
    cursor[level].node.recount()
    sibling?.recount()

    // Upwards: totals, first elements, and the entries of new siblings.
    while level > 0 {
      level &-= 1
      var step = cursor[level]
      refresh(step.node, step.index, cursor[level &+ 1].node)
      guard let right = sibling else {
        step.node.total &+= 1
        continue
      }
      sibling = nil
      let wasLast = isLast(cursor, level)
      step.index &+= 1
      if step.node.count == Node.capacity {
        (step, sibling) = split(step, isLast: wasLast, arena)
      }
      insertChild(right, into: step)
      cursor[level].node.recount()
      sibling?.recount()
    }
    if let right = sibling { growRoot(right, arena) }
  }

  /// Appends an element whose word is at least that of every other.
  mutating func append(_ element: UnsafeMutableRawPointer, word: UInt64, _ arena: Arena) {
    var cursor = pastTheEnd()
    insert(at: &cursor, element, key: TreeKey(word: word), arena)
  }

  /// Takes the element at `cursor` out. It must still be readable: its key may have to be compared.
  mutating func remove(at cursor: inout TreeCursor, _ arena: Arena) {
    makeWritable(&cursor, arena)
    var level = cursor.depth &- 1
    let leaf = cursor[level]
    leaf.node.closeGap(at: leaf.index)
    leaf.node.total &-= 1

    while level > 0 {
      let node = cursor[level].node
      let wasFirst = cursor[level].index == 0
      level &-= 1
      let parent = cursor[level]
      parent.node.total &-= 1
      if node.count == 0 {
        // Only a node of the right edge can be this small without having merged before.
        arena.retire(node)
        parent.node.closeGap(at: parent.index)
        continue
      }
      parent.node.totals[parent.index] = UInt32(truncatingIfNeeded: node.total)
      if wasFirst { renameFirst(parent.node, parent.index, node) }
      if node.count < Node.minimum && parent.node.count > 1 {
        rebalance(parent.node, parent.index, arena)
      }
    }

    // A root with one child gives way to it.
    while let node = root, node.count <= 1 {
      if node.count == 0 {
        root = nil
      } else if node.height > 0 {
        root = node.children[0]
      } else {
        break
      }
      arena.retire(node)
    }
  }

  /// Makes every node on the path one of this epoch.
  @inline(__always)
  private mutating func makeWritable(_ cursor: inout TreeCursor, _ arena: Arena) {
    invariant(cursor.depth > 0, "a change at no place")
    let top = arena.writable(cursor[0].node)
    cursor[0].node = top
    root = top
    var level = 1
    while level < cursor.depth {
      let node = arena.writable(cursor[level].node)
      let parent = cursor[level &- 1]
      parent.node.children[parent.index] = node
      cursor[level].node = node
      level &+= 1
    }
  }

  /// Whether the node at `level` of the path is the last one of its level.
  private func isLast(_ cursor: TreeCursor, _ level: Int) -> Bool {
    for upper in 0..<level where cursor[upper].index < cursor[upper].node.count &- 1 {
      return false
    }
    return true
  }

  /// Splits a full node that an entry is to be inserted into at `step`.
  ///
  /// - Returns: where the entry goes now, and the new right node.
  private func split(
    _ step: TreeCursor.Step, isLast: Bool, _ arena: Arena
  ) -> (TreeCursor.Step, Node) {
    let node = step.node
    let kept: Int
    if step.index < Node.capacity {
      kept = Node.capacity / 2
    } else {
      kept = isLast ? Node.capacity : Node.capacity * 3 / 4
    }
    let right = arena.makeNode(height: node.height)
    right.copyEntries(node, from: kept, to: 0, count: Node.capacity &- kept)
    right.count = Node.capacity &- kept
    node.count = kept
    if !order.hasWords {
      node.rebuildHeads()
      right.rebuildHeads()
    }
    // An entry between the two goes to the left, unless the right one is new and empty.
    if step.index < kept || (step.index == kept && kept < Node.capacity / 2 &+ 1) {
      return (step, right)
    }
    return (TreeCursor.Step(node: right, index: step.index &- kept), right)
  }

  /// Brings the entry at `index` in line with its child, which got an element.
  @inline(__always)
  private func refresh(_ node: Node, _ index: Int, _ child: Node) {
    node.totals[index] = UInt32(truncatingIfNeeded: child.total)
    if node.slots[index] != child.slots[0] { renameFirst(node, index, child) }
  }

  /// Takes over the child's first element into the entry at `index`.
  private func renameFirst(_ node: Node, _ index: Int, _ child: Node) {
    let first = child.slots[0]
    let head =
      order.hasWords ? child.heads[0] : node.headForEntry(Record(address: first).key)
    node.slots[index] = first
    node.heads[index] = head
  }

  private func insertChild(_ child: Node, into step: TreeCursor.Step) {
    let first = child.slots[0]
    let head =
      order.hasWords ? child.heads[0] : step.node.headForEntry(Record(address: first).key)
    step.node.openGap(at: step.index)
    step.node.heads[step.index] = head
    step.node.slots[step.index] = first
    step.node.children[step.index] = child
    step.node.totals[step.index] = UInt32(truncatingIfNeeded: child.total)
  }

  private mutating func growRoot(_ right: Node, _ arena: Arena) {
    guard let left = root else { return }
    let top = arena.makeNode(height: left.height &+ 1)
    insertChild(left, into: TreeCursor.Step(node: top, index: 0))
    insertChild(right, into: TreeCursor.Step(node: top, index: 1))
    top.recount()
    root = top
  }

  /// Merges the small child at `index` with a neighbour, or evens the two out.
  private func rebalance(_ parent: Node, _ index: Int, _ arena: Arena) {
    let leftIndex = index > 0 ? index &- 1 : index
    let left = arena.writable(parent.children[leftIndex])
    let right = arena.writable(parent.children[leftIndex &+ 1])
    parent.children[leftIndex] = left
    parent.children[leftIndex &+ 1] = right
    let sum = left.count &+ right.count
    if sum <= Node.mergedMaximum {
      left.copyEntries(right, from: 0, to: left.count, count: right.count)
      left.count = sum
      finishRebalancing(left)
      parent.totals[leftIndex] = UInt32(truncatingIfNeeded: left.total)
      parent.closeGap(at: leftIndex &+ 1)
      arena.retire(right)
      return
    }
    let half = sum / 2
    if left.count < half {
      let moved = half &- left.count
      left.copyEntries(right, from: 0, to: left.count, count: moved)
      right.copyEntries(right, from: moved, to: 0, count: right.count &- moved)
    } else {
      let moved = left.count &- half
      right.copyEntries(right, from: 0, to: moved, count: right.count)
      right.copyEntries(left, from: half, to: 0, count: moved)
    }
    left.count = half
    right.count = sum &- half
    finishRebalancing(left)
    finishRebalancing(right)
    parent.totals[leftIndex] = UInt32(truncatingIfNeeded: left.total)
    parent.totals[leftIndex &+ 1] = UInt32(truncatingIfNeeded: right.total)
    renameFirst(parent, leftIndex &+ 1, right)
  }

  private func finishRebalancing(_ node: Node) {
    node.recount()
    if !order.hasWords { node.rebuildHeads() }
  }
}
