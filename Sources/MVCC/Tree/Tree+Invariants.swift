import EtcdWire
import Primitives

extension Tree {
  /// Checks everything that must hold in a tree. O(n); for tests.
  func validate() {
    guard let root else { return }
    invariant(root.count > 0, "an empty root")
    if !root.isLeaf { invariant(root.count > 1, "an inner root with a single child") }
    _ = validate(root)
    var cursor = first()
    var previous: (element: UnsafeMutableRawPointer, head: UInt64)?
    var elements = 0
    while let element = cursor.element {
      let step = cursor[cursor.depth - 1]
      let head = step.node.heads[step.index]
      if let previous { invariant(isOrdered(previous, (element, head)), "elements out of order") }
      previous = (element, head)
      elements += 1
      cursor.advance()
    }
    invariant(elements == count, "the root's total is not the number of elements")
  }

  private func isOrdered(
    _ left: (element: UnsafeMutableRawPointer, head: UInt64),
    _ right: (element: UnsafeMutableRawPointer, head: UInt64)
  ) -> Bool {
    switch order {
    case .lease: return left.head < right.head
    case .event: return left.head <= right.head
    case .key:
      return Record(address: left.element).key.precedes(Record(address: right.element).key)
    case .version:
      let (left, right) = (Record(address: left.element), Record(address: right.element))
      let difference = left.key.compareBytes(right.key)
      return difference < 0 || (difference == 0 && left.modRevision <= right.modRevision)
    }
  }

  /// - Returns: the number of elements at and below the node.
  private func validate(_ node: Node) -> Int {
    invariant(node.count > 0 && node.count <= Node.capacity, "a node's count is out of range")
    if !order.hasWords {
      for index in 0..<node.count {
        let key = Record(address: node.slots[index]).key
        let length = node.prefixLength
        invariant(key.count >= length, "a key shorter than its node's prefix")
        let prefix = UnsafeRawBufferPointer(start: node.prefix, count: length)
        invariant(
          UnsafeRawBufferPointer(rebasing: key[..<length]).hasSameBytes(as: prefix),
          "a key without its node's prefix")
        invariant(
          node.heads[index] == Node.head(of: key, at: length), "a head that isn't its key's")
      }
    }
    if node.isLeaf {
      invariant(node.total == node.count, "a leaf's total is not its count")
      return node.count
    }
    var sum = 0
    for index in 0..<node.count {
      let child = node.children[index]
      invariant(child.height == node.height - 1, "leaves at different depths")
      invariant(child.epoch <= node.epoch, "a node newer than the one above it")
      if order.hasWords {
        invariant(node.heads[index] == child.heads[0], "an entry that isn't its child's first")
      } else {
        invariant(node.slots[index] == child.slots[0], "an entry that isn't its child's first")
      }
      let total = validate(child)
      invariant(Int(node.totals[index]) == total, "an entry's total is wrong")
      sum += total
    }
    invariant(node.total == sum, "a node's total is wrong")
    return sum
  }
}
