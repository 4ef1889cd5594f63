import Glibc

/// Facts about the machine that don't change while it runs.
public enum Machine {
  /// In Go's spelling, as images and nodes are labelled.
  public static var architecture: String {
    #if arch(x86_64)
      "amd64"
    #elseif arch(arm64)
      "arm64"
    #elseif arch(arm)
      "arm"
    #elseif arch(i386)
      "386"
    #elseif arch(riscv64)
      "riscv64"
    #else
      "unknown"
    #endif
  }

  /// Differs after each boot: process ids of another boot mean nothing.
  static var bootID: String { Disk.readLine("/proc/sys/kernel/random/boot_id") ?? "" }
}

extension Machine {
  /// How many processors the machine has online.
  static var processors: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

  /// The machine's memory.
  static var memoryBytes: Int64 { Int64(memory("MemTotal:") ?? 0) }

  /// What could be used without swapping.
  static var availableMemoryBytes: Int64 { Int64(memory("MemAvailable:") ?? 0) }

  /// Memory that nothing uses at all.
  static var freeMemoryBytes: Int64 { Int64(memory("MemFree:") ?? 0) }
  /// Page cache that wasn't used lately.
  static var inactiveFileBytes: Int64 { Int64(memory("Inactive(file):") ?? 0) }
  static var anonymousMemoryBytes: Int64 { Int64(memory("AnonPages:") ?? 0) }

  /// A field of /proc/meminfo in bytes.
  private static func memory(_ field: String) -> Int? {
    guard let bytes = try? Disk.read("/proc/meminfo", limit: 64 << 10) else { return nil }
    for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
      let words = line.split(separator: " ")
      if words.count >= 2, words[0] == field { return Int(words[1]).map { $0 * 1024 } }
    }
    return nil
  }
}

extension Machine {
  public static var hostname: String {
    var buffer = [CChar](repeating: 0, count: 256)
    guard gethostname(&buffer, buffer.count - 1) == 0 else { return "localhost" }
    return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
  }

  /// The IPv4 address by which the machine reaches others: the source address of its default route, or
  /// the first of an interface that is up; nil if it has none but loopback.
  public static func address() -> String? {
    routedAddress() ?? interfaceAddress()
  }

  /// A datagram socket that is connected, to an address reserved for documentation, sends nothing but
  /// makes the kernel choose a route.
  private static func routedAddress() -> String? {
    let socket = socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard socket >= 0 else { return nil }
    defer { close(socket) }
    var target = sockaddr_in()
    target.sin_family = sa_family_t(AF_INET)
    target.sin_port = UInt16(9).bigEndian
    // 203.0.113.1, TEST-NET-3.
    target.sin_addr.s_addr = UInt32(0xCB00_7101).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let connected = withUnsafePointer(to: &target) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(socket, $0, length) }
    }
    guard connected == 0 else { return nil }
    let named = withUnsafeMutablePointer(to: &target) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(socket, $0, &length) }
    }
    guard named == 0 else { return nil }
    return IPv4Address(rawValue: UInt32(bigEndian: target.sin_addr.s_addr)).description
  }

  /// All IPv4 addresses of the machine.
  static func addresses() -> [IPv4Address] {
    var first: UnsafeMutablePointer<ifaddrs>?
    guard getifaddrs(&first) == 0 else { return [] }
    defer { freeifaddrs(first) }
    var found: [IPv4Address] = []
    var next = first
    while let entry = next?.pointee {
      next = entry.ifa_next
      guard let address = entry.ifa_addr, Int32(address.pointee.sa_family) == AF_INET else {
        continue
      }
      found.append(
        address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
          IPv4Address(rawValue: UInt32(bigEndian: $0.pointee.sin_addr.s_addr))
        })
    }
    return found
  }

  private static func interfaceAddress() -> String? {
    var first: UnsafeMutablePointer<ifaddrs>?
    guard getifaddrs(&first) == 0 else { return nil }
    defer { freeifaddrs(first) }
    var next = first
    while let entry = next?.pointee {
      next = entry.ifa_next
      guard let address = entry.ifa_addr, Int32(address.pointee.sa_family) == AF_INET,
        entry.ifa_flags & UInt32(IFF_UP) != 0, entry.ifa_flags & UInt32(IFF_LOOPBACK) == 0
      else { continue }
      return address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
        IPv4Address(rawValue: UInt32(bigEndian: $0.pointee.sin_addr.s_addr)).description
      }
    }
    return nil
  }
}
