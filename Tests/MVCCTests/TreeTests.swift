import EtcdWire
import Primitives
import Testing

@testable import MVCC

/// The B-tree against sorted arrays, with its invariants checked on the way.
@Suite struct TreeTests {
  /// Shapes of keys: what prefixes, heads and the words behind them have to cope with.
  enum Shape: CaseIterable {
    case short, growing, directories, longShared, zeros

    func key(_ random: inout RandomSource, _ serial: Int) -> [UInt8] {
      switch self {
      case .short: return (0...random.below(3)).map { _ in UInt8(random.below(3)) }
      case .growing: return Array("key-\(1_000_000 + serial)".utf8)
      case .directories:
        return Array("/registry/\(random.below(4))/\(random.below(8))/\(random.below(200))".utf8)
      case .longShared:
        return Array(
          (String(repeating: "x", count: 60 + Int(random.below(12))) + "\(random.below(300))").utf8)
      case .zeros:
        return Array("a".utf8) + [UInt8](repeating: 0, count: Int(random.below(80)))
      }
    }
  }

  @Test("A tree of keys holds what a sorted dictionary holds", arguments: Shape.allCases, 0..<4)
  func keysAgainstModel(shape: Shape, seed: Int) {
    var random = RandomSource(seed: UInt64(seed))
    let arena = Arena()
    var tree = Tree(order: .key)
    var model: [[UInt8]: Record] = [:]
    let deletions: UInt64 = seed % 2 == 0 ? 4 : 2
    for serial in 0..<3000 {
      let isDeleting = random.oneIn(deletions)
      let key =
        isDeleting && !model.isEmpty && random.oneIn(2)
        ? model.keys.min { $0.lexicographicallyPrecedes($1) } ?? []
        : shape.key(&random, serial)
      key.withUnsafeBytes { bytes in
        var (cursor, exists) = tree.descend(to: TreeKey(bytes))
        #expect(exists == (model[key] != nil))
        if isDeleting {
          if exists {
            let record = cursor.record
            tree.remove(at: &cursor, arena)
            record.map { arena.retire($0) }
            model[key] = nil
          }
          return
        }
        let record = Record.make(
          key: bytes, createRevision: 1, modRevision: 1, version: 1, lease: 0, value: .none)
        arena.adopt(record)
        if exists {
          let old = cursor.record
          tree.replace(at: &cursor, with: record.address, arena)
          old.map { arena.retire($0) }
        } else {
          tree.insert(at: &cursor, record.address, key: TreeKey(bytes), arena)
        }
        model[key] = record
      }
      if serial % 97 == 0 { tree.validate() }
      // Every so often a view is published, so that nodes are copied and kept.
      if serial % 50 == 0 { arena.published(revision: 1_000_000) }
    }
    tree.validate()

    let sorted = model.keys.sorted { $0.lexicographicallyPrecedes($1) }
    var walked: [[UInt8]] = []
    tree.forEachElement { walked.append([UInt8](Record(address: $0).key)) }
    #expect(walked == sorted)
    for _ in 0..<300 {
      let probe = shape.key(&random, Int(random.below(3000)))
      let rank = sorted.firstIndex { !$0.lexicographicallyPrecedes(probe) } ?? sorted.count
      probe.withUnsafeBytes { bytes in
        #expect(tree.rank(TreeKey(bytes)) == rank)
        #expect(tree.find(TreeKey(bytes)) == model[probe]?.address)
        let found = tree.seek(TreeKey(bytes)).record.map { [UInt8]($0.key) }
        #expect(found == (rank < sorted.count ? sorted[rank] : nil))
        var cursor = tree.descend(to: TreeKey(bytes)).0
        let before = cursor.retreat() ? cursor.record.map { [UInt8]($0.key) } : nil
        #expect(before == (rank > 0 ? sorted[rank - 1] : nil))
      }
      let place = Int(random.below(UInt64(sorted.count + 2)))
      let there = tree.element(atRank: place).record.map { [UInt8]($0.key) }
      #expect(there == (place < sorted.count ? sorted[place] : nil))
    }
    var root = Root()
    root.live = tree
    arena.abandon(root)
  }

  @Test("Versions of a key stand in the order of revisions, equal ones in that of insertion")
  func versions() {
    var random = RandomSource(seed: 5)
    let arena = Arena()
    var tree = Tree(order: .version)
    var model: [(key: UInt8, revision: Int64, record: Record)] = []
    for _ in 0..<4000 {
      let key = UInt8(random.below(3))
      // Several records of one revision in a row are what odd transactions make.
      let revision = Int64(model.count / 3)
      let record = [key].withUnsafeBytes {
        Record.make(
          key: $0, createRevision: 1, modRevision: revision, version: 1, lease: 0, value: .none)
      }
      arena.adopt(record)
      var cursor = tree.descend(to: TreeKey(record.key, revision: revision + 1)).0
      tree.insert(
        at: &cursor, record.address, key: TreeKey(record.key, revision: revision), arena)
      model.append((key, revision, record))
    }
    tree.validate()
    let sorted = model.enumerated().sorted {
      ($0.element.key, $0.element.revision, $0.offset)
        < ($1.element.key, $1.element.revision, $1.offset)
    }
    var walked: [Record] = []
    tree.forEachElement { walked.append(Record(address: $0)) }
    #expect(walked == sorted.map(\.element.record))
    var root = Root()
    root.history = tree
    arena.abandon(root)
  }

  @Test("Ever-growing words leave full nodes behind, and drain from the left")
  func events() throws {
    let arena = Arena()
    var tree = Tree(order: .event)
    let element = UnsafeMutableRawPointer.allocate(byteCount: 8, alignment: 8)
    defer { element.deallocate() }
    for word in 0..<20_000 { tree.append(element, word: UInt64(word / 2), arena) }
    tree.validate()
    var leaves = 0
    tree.forEachNode { if $0.isLeaf { leaves += 1 } }
    #expect(leaves == (20_000 + 63) / 64)
    var removed = 0
    while !tree.isEmpty {
      var cursor = tree.first()
      tree.remove(at: &cursor, arena)
      removed += 1
      if removed % 500 == 0 { tree.validate() }
    }
    #expect(removed == 20_000)
  }

  @Test("Descending keys behind a full node don't leave a node each")
  func descendingInsertions() {
    let arena = Arena()
    var tree = Tree(order: .lease)
    let element = UnsafeMutableRawPointer.allocate(byteCount: 8, alignment: 8)
    defer { element.deallocate() }
    func insert(_ word: UInt64) {
      var cursor = tree.descend(to: TreeKey(word: word)).0
      tree.insert(at: &cursor, element, key: TreeKey(word: word), arena)
    }
    for word in 0..<64 as Range<UInt64> { insert(word) }
    for word in (100..<10_000 as Range<UInt64>).reversed() { insert(word) }
    tree.validate()
    var leaves = 0
    tree.forEachNode { if $0.isLeaf { leaves += 1 } }
    #expect(leaves < 10_000 / 24)
    tree.forEachNode { arena.retire($0) }
  }
}
