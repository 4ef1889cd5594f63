/// The rules of RFC 9113, sections 8.1 to 8.3, for what may stand in a header section. A section
/// that breaks one is malformed, and its stream is reset.
extension HeaderBlock {
  enum Kind: UInt8 { case unchecked, request, response, trailers }

  /// Checks the section once per decoding; returns what is wrong with it, or nil.
  @inline(__always)
  func validate(as kind: Kind) -> StaticString? {
    if checked == kind { return fault }
    fault = check(as: kind)
    checked = kind
    return fault
  }

  private func check(as kind: Kind) -> StaticString? {
    var sawRegular = false
    for index in fields.indices {
      let value = self.value(at: index)
      let field = fields[index]
      if let problem = Self.checkValue(value) { return problem }
      switch field.name {
      case .method, .scheme, .path, .authority, .status, .unknownPseudo:
        if sawRegular { return "a pseudo-header after a header" }
        if let problem = checkPseudo(field.name, index, kind) { return problem }
        continue
      case .connection, .keepAlive, .proxyConnection, .transferEncoding, .upgrade:
        return "a header of HTTP/1.1 connections"
      case .te:
        if !equal(value, "trailers") { return "te is not trailers" }
      case .contentLength:
        guard let length = Self.decimal(value), contentLength < 0 || contentLength == length else {
          return "content-length is not one number"
        }
        contentLength = length
      case .other:
        if let problem = Self.checkName(name(at: index)) { return problem }
      default: break
      }
      sawRegular = true
    }
    switch kind {
    case .request: return checkRequest()
    case .response: return status == 0 ? "no :status" : nil
    case .trailers, .unchecked: return nil
    }
  }

  private func checkPseudo(_ name: HeaderName, _ index: Int, _ kind: Kind) -> StaticString? {
    switch (kind, name) {
    case (.request, .method) where methodField < 0: methodField = index
    case (.request, .scheme) where schemeField < 0: schemeField = index
    case (.request, .path) where pathField < 0: pathField = index
    case (.request, .authority) where authorityField < 0: authorityField = index
    case (.response, .status) where status == 0:
      guard let code = Self.decimal(value(at: index)), (100...999).contains(code),
        value(at: index).count == 3
      else { return ":status is not a status code" }
      status = Int(code)
    default: return "a pseudo-header that is unknown, repeated or out of place"
    }
    return nil
  }

  private func checkRequest() -> StaticString? {
    if methodField < 0 { return "no :method" }
    if equal(method, "CONNECT") {
      return schemeField < 0 && pathField < 0 && authorityField >= 0
        ? nil : "a CONNECT needs :authority alone"
    }
    if schemeField < 0 { return "no :scheme" }
    if pathField < 0 { return "no :path" }
    guard let first = path.first else { return "an empty :path" }
    if first != UInt8(ascii: "/"), !(equal(path, "*") && equal(method, "OPTIONS")) {
      return ":path does not start with a slash"
    }
    return nil
  }

  /// Field values hold no NUL, CR or LF and neither start nor end in a space or tab.
  private static func checkValue(_ value: UnsafeRawBufferPointer) -> StaticString? {
    guard let first = value.first, let last = value.last else { return nil }
    if first == 0x20 || first == 0x09 || last == 0x20 || last == 0x09 {
      return "a header value starts or ends in a space"
    }
    for byte in value where byte < 0x20 {
      if byte == 0 || byte == 0x0A || byte == 0x0D { return "a control character in a header" }
    }
    return nil
  }

  /// Names hold no upper case, no space, no colon, nothing outside visible ASCII.
  private static func checkName(_ name: UnsafeRawBufferPointer) -> StaticString? {
    if name.isEmpty { return "an empty header name" }
    for byte in name {
      if byte <= 0x20 || byte >= 0x7F || byte == UInt8(ascii: ":") { return "a broken header name" }
      if byte >= UInt8(ascii: "A"), byte <= UInt8(ascii: "Z") { return "an upper-case header name" }
    }
    return nil
  }

  private static func decimal(_ text: UnsafeRawBufferPointer) -> Int64? {
    if text.isEmpty || text.count > 18 { return nil }
    var value: Int64 = 0
    for byte in text {
      guard byte >= 0x30, byte <= 0x39 else { return nil }
      value = value * 10 + Int64(byte - 0x30)
    }
    return value
  }
}
