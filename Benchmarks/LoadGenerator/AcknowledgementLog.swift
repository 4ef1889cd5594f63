import Foundation
import Glibc
import Primitives

/// A put that the server acknowledged: the key and which value it was.
struct Acknowledgement: Hashable, Sendable {
  var key: UInt64
  var variant: UInt32
}

/// What a verifying run has to know of the one that wrote.
struct AcknowledgementHeader: Codable, Sendable {
  var keySize: Int
  var valueSize: Int
  var values: ValueKind
  var seed: UInt64
}

/// The record of acknowledged puts: a line of JSON that says how keys and values were made, then 12
/// bytes for each put, in the order of the answers: key number and value number, little-endian.
///
/// Written with one `write` per burst, so what was acknowledged is on record although the generator
/// itself should be killed. Each file belongs to one event loop.
final class AcknowledgementLog {
  private let descriptor: Int32
  private var buffer: [UInt8] = []

  init(path: String, header: AcknowledgementHeader) throws {
    descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0o644)
    if descriptor < 0 {
      throw GeneratorError("cannot write \(path): \(String(cString: strerror(errno)))")
    }
    buffer = Array(try JSONEncoder().encode(header)) + [UInt8(ascii: "\n")]
    flush()
  }

  deinit {
    flush()
    close(descriptor)
  }

  func append(_ acknowledgement: Acknowledgement) {
    buffer.append(littleEndian: acknowledgement.key)
    buffer.append(littleEndian: acknowledgement.variant)
  }

  func flush() {
    var written = 0
    while written < buffer.count {
      let count = buffer.withUnsafeBytes {
        write(descriptor, $0.baseAddress! + written, $0.count - written)
      }
      if count < 0 && errno == EINTR { continue }
      if count <= 0 { break }
      written += count
    }
    buffer.removeAll(keepingCapacity: true)
  }

  /// Reads a record; an incomplete last entry is left out. Of a key that was put several times, only the
  /// last put counts.
  static func read(
    path: String
  ) throws -> (header: AcknowledgementHeader, acknowledgements: [Acknowledgement]) {
    let data = try Data(contentsOf: URL(fileURLWithPath: path))
    guard let lineEnd = data.firstIndex(of: UInt8(ascii: "\n")) else {
      throw GeneratorError("\(path) is not a record of acknowledged puts")
    }
    let header = try JSONDecoder().decode(AcknowledgementHeader.self, from: data[..<lineEnd])
    var last: [UInt64: UInt32] = [:]
    try Array(data[(lineEnd + 1)...]).withUnsafeBytes { bytes in
      var reader = ByteReader(bytes)
      while reader.remaining >= 12 {
        let key = try reader.read(UInt64.self)
        last[key] = try reader.read(UInt32.self)
      }
    }
    let list = last.map { Acknowledgement(key: $0.key, variant: $0.value) }
    guard list.allSatisfy({ Int($0.variant) < ValueSource.variants(size: header.valueSize) }) else {
      throw GeneratorError("\(path) names values that there are not")
    }
    return (header, list.sorted { $0.key < $1.key })
  }
}

/// Why a run cannot go on, for the person who started it.
struct GeneratorError: Error, CustomStringConvertible {
  var description: String
  init(_ description: String) { self.description = description }
}
