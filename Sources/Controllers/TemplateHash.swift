import KubeAPI
import Primitives

/// Short names for templates.
enum TemplateHash {
  /// A hash of the template's canonical bytes and of the count of collisions, in letters that can't form
  /// words.
  static func name(of template: Value, collisions: Int64) -> String {
    let alphabet = Array("bcdfghjklmnpqrstvwxz2456789")
    var bytes = template.json
    bytes.append(littleEndian: collisions)
    // Two CRCs with different seeds give 64 bits; ten letters of 27 carry 47 of them.
    var rest =
      UInt64(CRC32C.checksum(bytes)) << 32 | UInt64(CRC32C.checksum(bytes, seed: 0x9E37_79B9))
    var text = ""
    for _ in 0..<10 {
      text.append(alphabet[Int(rest % UInt64(alphabet.count))])
      rest /= UInt64(alphabet.count)
    }
    return text
  }
}
