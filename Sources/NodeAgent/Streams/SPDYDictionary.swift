import CZlib

/// The text with which both sides of SPDY/3.1 prime their header compression ("SPDY Protocol - Draft 3",
/// section 2.6.10.1): names with their lengths, then common values. zlib knows it by its Adler-32 sum,
/// 0xE3C6A7C2, which a test checks.
enum SPDYDictionary {
  private static let names =
    "options head post put delete trace accept accept-charset accept-encoding accept-language "
    + "accept-ranges age allow authorization cache-control connection content-base content-encoding "
    + "content-language content-length content-location content-md5 content-range content-type date "
    + "etag expect expires from host if-match if-modified-since if-none-match if-range "
    + "if-unmodified-since last-modified location max-forwards pragma proxy-authenticate "
    + "proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    + "user-agent vary via warning www-authenticate method get status"

  private static let values =
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 "
    + "Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    + "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan"
    + " Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    + "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain"
    + ",text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,"
    + "enq=0."

  static let bytes: [UInt8] = {
    func entry(_ text: some StringProtocol) -> [UInt8] {
      [0, 0, 0, UInt8(text.utf8.count)] + Array(text.utf8)
    }
    var bytes: [UInt8] = []
    for name in names.split(separator: " ") { bytes += entry(name) }
    for text in [
      "200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin",
    ] { bytes += entry(text) }
    return bytes + Array(values.utf8)
  }()

  static var checksum: UInt {
    adler32(adler32(0, nil, 0), bytes, UInt32(bytes.count))
  }
}
