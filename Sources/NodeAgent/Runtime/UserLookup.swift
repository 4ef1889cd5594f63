import Glibc

/// Who a container's process runs as, looked up in the image's own `/etc/passwd` and `/etc/group`.
struct UserLookup {
  struct Identity: Equatable {
    var user: UInt32
    var group: UInt32
    /// Further groups that list the user by name.
    var groups: [UInt32]
  }

  /// Lines of `/etc/passwd` and `/etc/group`, split at colons.
  private let users: [[Substring]]
  private let groups: [[Substring]]

  init(passwd: String, group: String) {
    func split(_ text: String, _ fields: Int) -> [[Substring]] {
      text.split(separator: "\n").map { $0.split(separator: ":", omittingEmptySubsequences: false) }
        .filter { $0.count >= fields }
    }
    users = split(passwd, 4)
    groups = split(group, 3)
  }

  /// Reads the files from the topmost layer that has them. Links are resolved inside of the layer.
  init(layers: [String]) {
    func find(_ name: String) -> String {
      for layer in layers.reversed() {
        guard let root = try? Descriptor(opening: layer, O_RDONLY | O_DIRECTORY),
          let file = try? Descriptor(opening: name, inRoot: root, O_RDONLY | O_NONBLOCK)
        else { continue }
        guard file.isRegularFile else { continue }
        return String(decoding: (try? file.read(upTo: 1 << 20)) ?? [], as: UTF8.self)
      }
      return ""
    }
    self.init(passwd: find("etc/passwd"), group: find("etc/group"))
  }

  /// Resolves an image's `User` (`name`, `uid`, `user:group`), overridden by the pod's numbers.
  func resolve(_ text: String, userID: Int64?, groupID: Int64?) throws -> Identity {
    func number(_ value: Int64, _ name: String) throws -> UInt32 {
      guard value >= 0, let number = UInt32(exactly: value) else {
        throw RuntimeError(.invalidConfiguration, "\(name) \(value) is out of range")
      }
      return number
    }
    let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    var identity = Identity(user: 0, group: 0, groups: [])
    let entry: [Substring]?
    if let userID {
      identity.user = try number(userID, "runAsUser")
      entry = users.first { UInt32($0[2]) == identity.user }
    } else if let name = parts.first, !name.isEmpty {
      if let id = UInt32(name) {
        identity.user = id
        entry = users.first { UInt32($0[2]) == id }
      } else {
        entry = users.first { $0[0] == name }
        guard let id = entry.flatMap({ UInt32($0[2]) }) else {
          throw RuntimeError(
            .invalidConfiguration, "unable to find user \(name): no matching entries in passwd file"
          )
        }
        identity.user = id
      }
    } else {
      entry = users.first { UInt32($0[2]) == 0 }
    }
    identity.group = entry.flatMap { UInt32($0[3]) } ?? 0
    if let name = entry?[0] {
      identity.groups = groups.filter { group in
        group.count >= 4 && group[3].split(separator: ",").contains { $0 == name }
      }.compactMap { UInt32($0[2]) }
    }
    if let groupID {
      identity.group = try number(groupID, "runAsGroup")
    } else if userID == nil, parts.count == 2, !parts[1].isEmpty {
      if let id = UInt32(parts[1]) {
        identity.group = id
      } else if let id = groups.first(where: { $0[0] == parts[1] }).flatMap({ UInt32($0[2]) }) {
        identity.group = id
      } else {
        throw RuntimeError(
          .invalidConfiguration,
          "unable to find group \(parts[1]): no matching entries in group file")
      }
    }
    return identity
  }
}
