extension Value {
  /// The members of a JSON object, in the order in which they came, each key once.
  ///
  /// Kubernetes objects have few keys, so members are an array that is searched linearly; a large
  /// one (a ConfigMap with thousands of entries, or an attack) gets an index besides.
  public struct Object: Sendable {
    public struct Member: Sendable {
      public let key: String
      public internal(set) var value: Value

      public init(key: String, value: Value) {
        self.key = key
        self.value = value
      }
    }

    /// In order of insertion; no key twice.
    public private(set) var members: [Member]
    /// Where each key is in `members`; nil while there are at most `Limits.linearSearch`.
    private var index: [String: Int]?

    public init() {
      members = []
    }

    /// An object with these members; of a key that comes twice the last value stays.
    public init(_ members: some Sequence<(String, Value)>) {
      self.init()
      for (key, value) in members { set(key, to: value) }
    }

    /// An object of members whose keys are known to differ.
    init(unique members: ArraySlice<Member>) {
      self.members = Array(members)
      rebuildIndex()
    }

    public var count: Int { members.count }
    public var isEmpty: Bool { members.isEmpty }
    public var keys: [String] { members.map(\.key) }

    func position(_ key: String) -> Int? {
      if let index { return index[key] }
      for position in members.indices where members[position].key == key { return position }
      return nil
    }

    /// The member `key`, which may be null, or nil if there is none.
    public func find(_ key: String) -> Value? {
      position(key).map { members[$0].value }
    }

    /// As `Value`'s subscript: null for what is missing, and assigning null removes.
    public subscript(key: String) -> Value {
      get { find(key) ?? .null }
      set {
        if newValue.isNull {
          remove(key)
        } else {
          set(key, to: newValue)
        }
      }
      _modify {
        if let position = position(key) {
          defer { if members[position].value.isNull { remove(key) } }
          yield &members[position].value
        } else {
          var value = Value.null
          yield &value
          if !value.isNull { appendNew(key, value) }
        }
      }
    }

    /// Stores `value`, null too, in the key's place or at the end.
    public mutating func set(_ key: String, to value: Value) {
      if let position = position(key) {
        members[position].value = value
      } else {
        appendNew(key, value)
      }
    }

    @discardableResult
    public mutating func remove(_ key: String) -> Value? {
      guard let position = position(key) else { return nil }
      let value = members.remove(at: position).value
      if index != nil { rebuildIndex() }
      return value
    }

    /// Removes every member for which `condition` holds.
    public mutating func removeAll(where condition: (Member) -> Bool) {
      members.removeAll(where: condition)
      if index != nil { rebuildIndex() }
    }

    /// Adds a member whose key is known to be new.
    mutating func appendNew(_ key: String, _ value: Value) {
      members.append(Member(key: key, value: value))
      if index != nil {
        index?[key] = members.count - 1
      } else if members.count > Limits.linearSearch {
        rebuildIndex()
      }
    }

    /// Changes each value in place.
    public mutating func mutateValues(_ change: (String, inout Value) -> Void) {
      for position in members.indices {
        change(members[position].key, &members[position].value)
      }
    }

    private mutating func rebuildIndex() {
      guard members.count > Limits.linearSearch else {
        index = nil
        return
      }
      var index: [String: Int] = [:]
      index.reserveCapacity(members.count)
      for (position, member) in members.enumerated() { index[member.key] = position }
      self.index = index
    }
  }
}

extension Value.Object: Equatable {
  /// The same keys with equal values, in whatever order.
  public static func == (a: Self, b: Self) -> Bool {
    guard a.count == b.count else { return false }
    for (position, member) in a.members.enumerated() {
      let other = b.members[position]
      if other.key == member.key {
        if other.value != member.value { return false }
      } else {
        guard let value = b.find(member.key), value == member.value else { return false }
      }
    }
    return true
  }
}

extension Value.Object: ExpressibleByDictionaryLiteral {
  public init(dictionaryLiteral elements: (String, Value)...) {
    self.init(elements)
  }
}
