import EtcdWire
import MVCC
import Primitives

/// Operations that can be encoded for the store and evaluated by the model, which prints its
/// results in `Printer`'s words.
struct RangeOperation {
  var key: [UInt8] = []
  var end: [UInt8] = []
  var limit: Int64 = 0
  var revision: Int64 = 0
  var order: Int64 = 0
  var target: Int64 = 0
  var keysOnly = false
  var countOnly = false
  var minMod: Int64 = 0
  var maxMod: Int64 = 0
  var minCreate: Int64 = 0
  var maxCreate: Int64 = 0

  func encoded() -> [UInt8] {
    var output: [UInt8] = []
    output.append(field: 1, copy: key)
    output.append(field: 2, copy: end)
    output.append(field: 3, int64: limit)
    output.append(field: 4, int64: revision)
    output.append(field: 5, int64: order)
    output.append(field: 6, int64: target)
    output.append(field: 8, bool: keysOnly)
    output.append(field: 9, bool: countOnly)
    output.append(field: 10, int64: minMod)
    output.append(field: 11, int64: maxMod)
    output.append(field: 12, int64: minCreate)
    output.append(field: 13, int64: maxCreate)
    return output
  }

  func lines(_ model: Model, current: Int64) throws(Model.Failure) -> [String] {
    let all = try model.range(key, end, at: revision, current: current)
    if countOnly { return ["count \(all.count)"] }
    var shown = all
    let hasFilters = minMod != 0 || maxMod != 0 || minCreate != 0 || maxCreate != 0
    // etcd reads only limit + 1 keys if neither filters nor an order are given.
    if limit > 0, !hasFilters, order == 0 { shown = Array(shown.prefix(Int(limit) + 1)) }
    shown = shown.filter {
      (minMod == 0 || $0.mod >= minMod) && (maxMod == 0 || $0.mod <= maxMod)
        && (minCreate == 0 || $0.create >= minCreate)
        && (maxCreate == 0 || $0.create <= maxCreate)
    }
    let places = Array(shown.enumerated())
    shown = places.sorted { left, right in
      let difference: Int
      switch target {
      case 1: difference = RangeOperation.compare(left.element.version, right.element.version)
      case 2: difference = RangeOperation.compare(left.element.create, right.element.create)
      case 3: difference = RangeOperation.compare(left.element.mod, right.element.mod)
      case 4: difference = RangeOperation.compare(left.element.value, right.element.value)
      default: difference = left.offset - right.offset
      }
      if difference == 0 { return left.offset < right.offset }
      return order == 2 ? difference > 0 : difference < 0
    }.map(\.element)
    let more = limit > 0 && shown.count > Int(limit)
    if more { shown.removeLast(shown.count - Int(limit)) }
    return shown.map { $0.line(keysOnly: keysOnly) } + ["count \(all.count)\(more ? ", more" : "")"]
  }

  private static func compare(_ left: Int64, _ right: Int64) -> Int {
    left < right ? -1 : left == right ? 0 : 1
  }

  private static func compare(_ left: [UInt8], _ right: [UInt8]) -> Int {
    left == right ? 0 : left.lexicographicallyPrecedes(right) ? -1 : 1
  }
}

extension Model.Version {
  func line(keysOnly: Bool = false) -> String {
    var text = Printer.text(key)
    if isTombstone { return text + " create=0 mod=\(mod) version=0" }
    if !value.isEmpty && !keysOnly { text += "=\(Printer.text(value))" }
    text += " create=\(create) mod=\(mod) version=\(version)"
    if lease != 0 { text += " lease=\(lease)" }
    return text
  }
}

struct PutOperation {
  var key: [UInt8]
  var value: [UInt8]
  var lease: Int64 = 0
  var previous = false
  var ignoreValue = false
  var ignoreLease = false

  func encoded() -> [UInt8] {
    var output: [UInt8] = []
    output.append(field: 1, copy: key)
    output.append(field: 2, copy: value)
    output.append(field: 3, int64: lease)
    output.append(field: 4, bool: previous)
    output.append(field: 5, bool: ignoreValue)
    output.append(field: 6, bool: ignoreLease)
    return output
  }

  func check(_ model: Model, isInTransaction: Bool) throws(Model.Failure) {
    try model.checkPut(
      key, lease: lease, ignoresSomething: ignoreValue || ignoreLease,
      isInTransaction: isInTransaction)
  }

  func run(_ model: inout Model, at revision: Int64) -> [String] {
    let before = model.put(
      key, value, lease: lease, ignoreValue: ignoreValue, ignoreLease: ignoreLease, at: revision)
    return previous ? before.map { ["previous \($0.line())"] } ?? [] : []
  }
}

struct DeleteOperation {
  var key: [UInt8]
  var end: [UInt8]
  var previous = false

  func encoded() -> [UInt8] {
    var output: [UInt8] = []
    output.append(field: 1, copy: key)
    output.append(field: 2, copy: end)
    output.append(field: 3, bool: previous)
    return output
  }

  func run(_ model: inout Model, at revision: Int64) -> (count: Int, lines: [String]) {
    let deleted = model.delete(key, end, at: revision)
    let lines = previous ? deleted.map { "previous \($0.line())" } : []
    return (deleted.count, ["deleted \(deleted.count)"] + lines)
  }
}

struct CompareOperation {
  var target: Int64
  var relation: Int64
  var key: [UInt8]
  var end: [UInt8]
  var number: Int64
  var value: [UInt8]

  func encoded() -> [UInt8] {
    var output: [UInt8] = []
    output.append(field: 1, int64: relation)
    output.append(field: 2, int64: target)
    output.append(field: 3, copy: key)
    let fields: [UInt32] = [4, 5, 6, 7, 8]
    if target == 3 {
      value.withUnsafeBytes { output.append(field: 7, encoded: $0) }
    } else {
      output.append(field: fields[Int(target)], int64: number)
    }
    output.append(field: 64, copy: end)
    return output
  }

  func holds(_ model: Model) -> Bool {
    let versions = model.state(at: .max).filter { Model.isIn($0.key, key, end) }
    if versions.isEmpty {
      if target == 3 { return false }
      return holds(0 < number ? -1 : 0 == number ? 0 : 1)
    }
    return versions.allSatisfy { version in
      if target == 3 {
        return holds(
          version.value == value ? 0 : version.value.lexicographicallyPrecedes(value) ? -1 : 1)
      }
      let left = [version.version, version.create, version.mod, 0, version.lease][Int(target)]
      return holds(left < number ? -1 : left == number ? 0 : 1)
    }
  }

  private func holds(_ difference: Int) -> Bool {
    switch relation {
    case 0: difference == 0
    case 1: difference > 0
    case 2: difference < 0
    default: difference != 0
    }
  }
}

indirect enum Operation {
  case range(RangeOperation)
  case put(PutOperation)
  case delete(DeleteOperation)
  case txn(TxnOperation)

  func encoded() -> [UInt8] {
    var output: [UInt8] = []
    switch self {
    case .range(let range): output.append(field: 1, message: range.encoded())
    case .put(let put): output.append(field: 2, message: put.encoded())
    case .delete(let delete): output.append(field: 3, message: delete.encoded())
    case .txn(let txn): output.append(field: 4, message: txn.encoded())
    }
    return output
  }
}

struct TxnOperation {
  var compares: [CompareOperation] = []
  var success: [Operation] = []
  var failure: [Operation] = []

  func encoded() -> [UInt8] {
    var output: [UInt8] = []
    for compare in compares { output.append(field: 1, message: compare.encoded()) }
    for operation in success { output.append(field: 2, message: operation.encoded()) }
    for operation in failure { output.append(field: 3, message: operation.encoded()) }
    return output
  }

  /// The branches chosen, by the state before any change.
  indirect enum Plan {
    case branch(Bool, [Plan?])
  }

  func plan(_ model: Model) -> Plan {
    let isSuccess = compares.allSatisfy { $0.holds(model) }
    return .branch(
      isSuccess,
      (isSuccess ? success : failure).map {
        if case .txn(let nested) = $0 { nested.plan(model) } else { nil }
      })
  }

  func check(_ plan: Plan, _ model: Model) throws(Model.Failure) {
    let chosen = chosen(plan)
    for case .put(let put) in chosen { try put.check(model, isInTransaction: true) }
    for case .range(let range) in chosen where range.revision != 0 {
      if range.revision > model.revision { throw .futureRevision }
      if range.revision < model.compactRevision { throw .compacted }
    }
  }

  /// The operations of all branches taken, those of nested transactions in their places.
  private func chosen(_ plan: Plan) -> [Operation] {
    guard case .branch(let isSuccess, let plans) = plan else { return [] }
    return zip(isSuccess ? success : failure, plans).flatMap { operation, inner in
      if case .txn(let nested) = operation, let inner { return nested.chosen(inner) }
      return [operation]
    }
  }

  /// Runs the plan.
  func run(
    _ plan: Plan, _ model: inout Model, at revision: Int64, _ changed: inout Bool
  ) throws(Model.Failure) -> [String] {
    guard case .branch(let isSuccess, let plans) = plan else { return [] }
    var lines = [isSuccess ? "succeeded" : "failed"]
    for (operation, inner) in zip(isSuccess ? success : failure, plans) {
      switch operation {
      case .range(let range):
        let current = changed ? revision : revision - 1
        lines.append("get revision=\(current)")
        lines += try range.lines(model, current: current).map { "  \($0)" }
      case .put(let put):
        lines.append("put revision=\(revision)")
        changed = true
        lines += put.run(&model, at: revision).map { "  \($0)" }
      case .delete(let delete):
        let (count, deleted) = delete.run(&model, at: revision)
        if count > 0 { changed = true }
        lines.append("del revision=\(changed ? revision : revision - 1)")
        lines += deleted.map { "  \($0)" }
      case .txn(let nested):
        lines.append("txn revision=0")
        if let inner {
          lines += try nested.run(inner, &model, at: revision, &changed).map { "  \($0)" }
        }
      }
    }
    return lines
  }
}

/// Draws operations over a handful of keys, so that they meet.
struct OperationSource {
  var random: RandomSource
  var keyCount: UInt64

  init(seed: UInt64) {
    random = RandomSource(seed: seed)
    keyCount = [3, 8, 40, 400][Int(random.below(4))]
  }

  mutating func key() -> [UInt8] {
    let number = random.below(keyCount)
    // Some keys are prefixes of others, some have zero bytes and long shared beginnings.
    switch number % 4 {
    case 0: return Array("k\(number)".utf8)
    case 1: return Array("registry/pods/default/\(number)".utf8)
    case 2: return Array("k\(number)".utf8) + [0, UInt8(truncatingIfNeeded: number)]
    default: return Array((String(repeating: "z", count: 70) + "\(number)").utf8)
    }
  }

  /// An end in one of its forms.
  mutating func end() -> [UInt8] {
    switch random.below(4) {
    case 0: []
    case 1: [0]
    default: key()
    }
  }

  mutating func revision(_ model: Model) -> Int64 {
    switch random.below(6) {
    case 0: Int64(random.below(3)) - 1
    case 1: model.revision + Int64(random.below(3)) - 1
    default: Int64(random.below(UInt64(model.revision) + 1))
    }
  }

  mutating func range(_ model: Model) -> RangeOperation {
    var range = RangeOperation()
    range.key = random.oneIn(6) ? [0] : key()
    range.end = end()
    if random.oneIn(2) { range.revision = revision(model) }
    if random.oneIn(3) { range.limit = Int64(random.below(5)) - 1 }
    if random.oneIn(4) {
      range.order = Int64(random.below(3))
      range.target = Int64(random.below(5))
    }
    range.keysOnly = random.oneIn(5)
    range.countOnly = random.oneIn(8)
    if random.oneIn(6) { range.minMod = revision(model) }
    if random.oneIn(6) { range.maxMod = revision(model) }
    if random.oneIn(6) { range.minCreate = revision(model) }
    if random.oneIn(6) { range.maxCreate = revision(model) }
    return range
  }

  mutating func lease() -> Int64 { random.oneIn(2) ? 0 : Int64(random.below(6)) }

  mutating func put() -> PutOperation {
    var put = PutOperation(
      key: random.oneIn(50) ? [] : key(),
      value: [UInt8](repeating: UInt8(97 + random.below(4)), count: Int(random.below(200))))
    put.lease = lease()
    put.previous = random.oneIn(3)
    put.ignoreValue = random.oneIn(8)
    put.ignoreLease = random.oneIn(8)
    return put
  }

  mutating func delete() -> DeleteOperation {
    DeleteOperation(key: key(), end: random.oneIn(3) ? end() : [], previous: random.oneIn(2))
  }

  mutating func txn(_ model: Model, depth: Int = 0) -> TxnOperation {
    var txn = TxnOperation()
    for _ in 0..<random.below(3) {
      txn.compares.append(
        CompareOperation(
          target: Int64(random.below(5)), relation: Int64(random.below(4)), key: key(),
          end: random.oneIn(4) ? end() : [], number: revision(model),
          value: [UInt8](repeating: UInt8(97 + random.below(4)), count: Int(random.below(4)))))
    }
    for isSuccess in [true, false] {
      for _ in 0..<random.below(5) {
        let operation: Operation
        switch random.below(8) {
        case 0, 1, 2: operation = .put(put())
        case 3: operation = .delete(delete())
        case 4 where depth < 4: operation = .txn(self.txn(model, depth: depth + 1))
        default: operation = .range(range(model))
        }
        if isSuccess { txn.success.append(operation) } else { txn.failure.append(operation) }
      }
    }
    return txn
  }
}
