/// One file, directory or link of a tar archive.
struct TarEntry: Equatable {
  enum Kind: Equatable {
    case file
    case directory
    case symbolicLink
    /// `target` names an earlier entry.
    case hardLink
    case characterDevice
    case blockDevice
    case fifo
  }
  var kind: Kind
  /// As in the archive: neither normalised nor trusted.
  var path: String
  /// Of links.
  var target: String
  /// Permission bits, set-id and sticky bits included.
  var mode: UInt32
  var user: UInt32
  var group: UInt32
  /// Seconds since 1970.
  var modificationTime: Int64
  /// Of the content that follows, in bytes; zero unless a file.
  var size: Int64
  var deviceMajor: UInt32
  var deviceMinor: UInt32
  /// The raw `security.capability` attribute, if there is one.
  var capabilities: [UInt8]?
}

/// Reads tar archives as container layers hold them: POSIX ustar, pax headers, and GNU's long names.
///
/// A pull parser over a source of bytes: ask for an entry, read its content or leave it, ask for the
/// next. Content never lies in memory as a whole. Every header's checksum is verified and every length
/// is bounded, because layers are foreign input. Not read: sparse files and multi-volume archives,
/// which builders of images don't make; they are an error, not skipped.
struct TarReader<Source: ByteSource & ~Copyable>: ~Copyable {
  private var source: Source
  private var buffer: [UInt8] = []
  private var offset = 0
  /// Content of the current entry not yet read, then the padding behind it.
  private var contentLeft: Int64 = 0
  private var paddingLeft = 0
  private var hasEnded = false
  /// Defaults for all entries that follow (pax `g`).
  private var globalAttributes: [String: [UInt8]] = [:]

  /// What a foreign archive may ask of us.
  enum Limits {
    /// Largest pax header or long name, in bytes.
    static var headerBytes: Int { 1 << 20 }
    /// Longest path, as in Linux.
    static var pathBytes: Int { 4_096 }
    /// Largest file, in bytes.
    static var fileBytes: Int64 { 1 << 40 }
  }

  init(_ source: consuming Source) { self.source = source }

  /// Ends reading and gives the source back, read to its end: then its digest covers everything.
  consuming func finish() throws -> Source {
    while try !source.next().isEmpty {}
    return source
  }

  // MARK: Entries

  /// The next entry, or nil at the archive's end. Content of the one before that was not read is
  /// skipped.
  mutating func next() throws -> TarEntry? {
    var attributes = globalAttributes
    var longPath: [UInt8]?
    var longTarget: [UInt8]?
    while true {
      try skipContent()
      if hasEnded { return nil }
      guard let block = try readBlock() else {
        hasEnded = true
        return nil
      }
      if block.allSatisfy({ $0 == 0 }) {
        hasEnded = true
        return nil
      }
      let header = try Header(block)
      switch header.kind {
      case UInt8(ascii: "x"):
        for (key, value) in try readAttributes(header.size) { attributes[key] = value }
      case UInt8(ascii: "g"):
        for (key, value) in try readAttributes(header.size) {
          globalAttributes[key] = value
          attributes[key] = value
        }
      case UInt8(ascii: "L"): longPath = try readSmall(header.size)
      case UInt8(ascii: "K"): longTarget = try readSmall(header.size)
      default:
        return try entry(header, attributes, longPath: longPath, longTarget: longTarget)
      }
    }
  }

  /// The next piece of the current entry's content; empty at its end.
  mutating func readContent() throws -> ArraySlice<UInt8> {
    guard contentLeft > 0 else { return [] }
    if offset == buffer.count, try !fill() { throw Self.truncated }
    let count = Int(min(contentLeft, Int64(buffer.count - offset)))
    defer { offset += count }
    contentLeft -= Int64(count)
    return buffer[offset..<offset + count]
  }

  private mutating func entry(
    _ header: Header, _ attributes: [String: [UInt8]], longPath: [UInt8]?, longTarget: [UInt8]?
  ) throws -> TarEntry {
    func number(_ key: String) throws -> Int64? {
      guard let bytes = attributes[key] else { return nil }
      // Times may carry a fraction; whole seconds are enough.
      let text = String(decoding: bytes.prefix { $0 != UInt8(ascii: ".") }, as: UTF8.self)
      guard let value = Int64(text) else { throw Self.malformed("pax \(key)") }
      return value
    }
    let kind: TarEntry.Kind
    switch header.kind {
    case 0, UInt8(ascii: "0"), UInt8(ascii: "7"):
      // Old archives mark directories by a slash at the end alone.
      kind = header.path.last == UInt8(ascii: "/") ? .directory : .file
    case UInt8(ascii: "1"): kind = .hardLink
    case UInt8(ascii: "2"): kind = .symbolicLink
    case UInt8(ascii: "3"): kind = .characterDevice
    case UInt8(ascii: "4"): kind = .blockDevice
    case UInt8(ascii: "5"): kind = .directory
    case UInt8(ascii: "6"): kind = .fifo
    default:
      throw ImageError(
        .corrupt,
        "tar: entries of type '\(Character(Unicode.Scalar(header.kind)))' are not supported")
    }
    if attributes.keys.contains(where: { $0.hasPrefix("GNU.sparse") }) {
      throw ImageError(.corrupt, "tar: sparse files are not supported")
    }
    let size = try number("size") ?? header.size
    guard size >= 0, size <= Limits.fileBytes else { throw Self.malformed("size") }
    contentLeft = size
    paddingLeft = Int((512 - size % 512) % 512)
    func checked(_ value: Int64, _ name: String) throws -> UInt32 {
      guard let value = UInt32(exactly: value) else { throw Self.malformed(name) }
      return value
    }
    return TarEntry(
      kind: kind,
      path: try Self.text(attributes["path"] ?? longPath ?? header.path),
      target: try Self.text(attributes["linkpath"] ?? longTarget ?? header.target),
      mode: try checked(header.mode, "mode") & 0o7777,
      user: try checked(number("uid") ?? header.user, "uid"),
      group: try checked(number("gid") ?? header.group, "gid"),
      modificationTime: try number("mtime") ?? header.modificationTime,
      size: kind == .file ? size : 0,
      deviceMajor: try checked(header.deviceMajor, "major"),
      deviceMinor: try checked(header.deviceMinor, "minor"),
      capabilities: attributes["SCHILY.xattr.security.capability"])
  }

  // MARK: Bytes

  private mutating func fill() throws -> Bool {
    buffer = try source.next()
    offset = 0
    return !buffer.isEmpty
  }

  private mutating func skipContent() throws {
    while contentLeft > 0 { _ = try readContent() }
    while paddingLeft > 0 {
      if offset == buffer.count, try !fill() {
        // Some writers leave out the padding behind the last entry.
        paddingLeft = 0
        return
      }
      let count = min(paddingLeft, buffer.count - offset)
      offset += count
      paddingLeft -= count
    }
  }

  /// The next 512 bytes, or nil if there are none at all.
  private mutating func readBlock() throws -> [UInt8]? {
    var block: [UInt8] = []
    while block.count < 512 {
      if offset == buffer.count, try !fill() {
        if block.isEmpty { return nil }
        throw Self.truncated
      }
      let count = min(512 - block.count, buffer.count - offset)
      block += buffer[offset..<offset + count]
      offset += count
    }
    return block
  }

  /// The content of a header entry, whole.
  private mutating func readSmall(_ size: Int64) throws -> [UInt8] {
    guard size >= 0, size <= Int64(Limits.headerBytes) else { throw Self.malformed("header size") }
    contentLeft = size
    paddingLeft = Int((512 - size % 512) % 512)
    var bytes: [UInt8] = []
    while contentLeft > 0 { bytes += try readContent() }
    while bytes.last == 0 { bytes.removeLast() }
    return bytes
  }

  /// Pax records: `<length> <key>=<value>\n`, the length counting itself.
  private mutating func readAttributes(_ size: Int64) throws -> [(String, [UInt8])] {
    let bytes = try readSmall(size)
    var records: [(String, [UInt8])] = []
    var next = 0
    while next < bytes.count {
      let start = next
      var length = 0
      while next < bytes.count, bytes[next] != UInt8(ascii: " ") {
        guard (48...57).contains(bytes[next]), length <= Limits.headerBytes else {
          throw Self.malformed("pax record")
        }
        length = length * 10 + Int(bytes[next] - 48)
        next += 1
      }
      let end = start + length
      guard next < end, end <= bytes.count, bytes[end - 1] == UInt8(ascii: "\n"),
        let equals = bytes[next + 1..<end].firstIndex(of: UInt8(ascii: "="))
      else { throw Self.malformed("pax record") }
      let key = String(decoding: bytes[next + 1..<equals], as: UTF8.self)
      records.append((key, Array(bytes[equals + 1..<end - 1])))
      next = end
    }
    return records
  }

  private static func text(_ bytes: [UInt8]) throws -> String {
    guard bytes.count < Limits.pathBytes, !bytes.contains(0),
      let text = String(validating: bytes, as: UTF8.self)
    else { throw malformed("name") }
    return text
  }

  private static var truncated: ImageError {
    ImageError(.corrupt, "tar: the archive ends in the middle of an entry")
  }

  private static func malformed(_ what: String) -> ImageError {
    ImageError(.corrupt, "tar: malformed \(what)")
  }

  // MARK: Headers

  /// The fields of a header block.
  private struct Header {
    var kind: UInt8
    var path: [UInt8]
    var target: [UInt8]
    var mode: Int64
    var user: Int64
    var group: Int64
    var size: Int64
    var modificationTime: Int64
    var deviceMajor: Int64
    var deviceMinor: Int64

    init(_ block: [UInt8]) throws {
      // The sum of all bytes, those of the checksum itself counted as spaces.
      var sum = 0
      for (index, byte) in block.enumerated() {
        sum += (148..<156).contains(index) ? 32 : Int(byte)
      }
      guard try Self.number(block[148..<156], "checksum") == Int64(sum) else {
        throw ImageError(.corrupt, "tar: a header's checksum is wrong")
      }
      kind = block[156]
      path = Self.string(block[0..<100])
      target = Self.string(block[157..<257])
      mode = try Self.number(block[100..<108], "mode")
      user = try Self.number(block[108..<116], "uid")
      group = try Self.number(block[116..<124], "gid")
      size = try Self.number(block[124..<136], "size")
      modificationTime = try Self.number(block[136..<148], "mtime")
      deviceMajor = 0
      deviceMinor = 0
      let magic = block[257..<263]
      if magic.starts(with: Array("ustar".utf8)) {
        deviceMajor = try Self.number(block[329..<337], "major")
        deviceMinor = try Self.number(block[337..<345], "minor")
        // GNU's own header keeps other things where POSIX has the prefix.
        if block[262] == 0 {
          let prefix = Self.string(block[345..<500])
          if !prefix.isEmpty { path = prefix + [UInt8(ascii: "/")] + path }
        }
      }
    }

    private static func string(_ field: ArraySlice<UInt8>) -> [UInt8] {
      Array(field.prefix { $0 != 0 })
    }

    /// Octal digits, or GNU's base 256 where the highest bit is set.
    private static func number(_ field: ArraySlice<UInt8>, _ name: String) throws -> Int64 {
      if let first = field.first, first & 0x80 != 0 {
        var value: Int64 = first & 0x40 != 0 ? -1 : 0
        for (index, byte) in field.enumerated() {
          let byte = index == 0 ? Int64(byte & 0x3F) : Int64(byte)
          let (shifted, overflow) = value.multipliedReportingOverflow(by: 256)
          if overflow { throw malformed(name) }
          // The first byte's low six bits replace the sign's extension.
          value = index == 0 ? (value == 0 ? byte : byte - 64) : shifted + byte
        }
        return value
      }
      var value: Int64 = 0
      var hasEnded = false
      for byte in field {
        if byte == 0 || byte == 32 {
          if value != 0 { hasEnded = true }
          continue
        }
        guard !hasEnded, (48...55).contains(byte) else { throw malformed(name) }
        value = value << 3 | Int64(byte - 48)
      }
      return value
    }
  }
}
