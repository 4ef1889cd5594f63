import CLZ4
import Primitives

/// Writes one LZ4 frame after the other. Owned by one writer.
final class FrameEncoder: @unchecked Sendable {
  private let context: OpaquePointer
  private var preferences = LZ4F_preferences_t()

  init?() {
    var context: OpaquePointer?
    guard LZ4F_isError(LZ4F_createCompressionContext(&context, UInt32(LZ4F_VERSION))) == 0,
      let context
    else { return nil }
    self.context = context
    // Independent blocks of 256 KiB: small buffers, and damage to one says nothing about the next.
    preferences.frameInfo.blockSizeID = LZ4F_max256KB
    preferences.frameInfo.blockMode = LZ4F_blockIndependent
    preferences.frameInfo.contentChecksumFlag = LZ4F_contentChecksumEnabled
  }

  deinit { LZ4F_freeCompressionContext(context) }

  /// Appends a frame's beginning to `output`.
  func begin(_ output: inout [UInt8]) -> Bool {
    append(to: &output, atMost: Int(LZ4F_HEADER_SIZE_MAX)) { target, room in
      LZ4F_compressBegin(context, target, room, &preferences)
    }
  }

  /// Appends what `bytes` add to the frame; some may stay inside until later.
  func update(_ bytes: UnsafeRawBufferPointer, _ output: inout [UInt8]) -> Bool {
    guard let base = bytes.baseAddress, !bytes.isEmpty else { return true }
    let bound = LZ4F_compressBound(bytes.count, &preferences)
    return append(to: &output, atMost: bound) { target, room in
      LZ4F_compressUpdate(context, target, room, base, bytes.count, nil)
    }
  }

  /// Appends what is left and the frame's end.
  func end(_ output: inout [UInt8]) -> Bool {
    let bound = LZ4F_compressBound(0, &preferences)
    return append(to: &output, atMost: bound) { target, room in
      LZ4F_compressEnd(context, target, room, nil)
    }
  }

  private func append(
    to output: inout [UInt8], atMost bound: Int, _ call: (UnsafeMutableRawPointer, Int) -> Int
  ) -> Bool {
    var isGood = false
    let piece = [UInt8](unsafeUninitializedCapacity: bound) { buffer, filled in
      filled = 0
      guard let base = buffer.baseAddress else { return }
      let count = call(UnsafeMutableRawPointer(base), bound)
      isGood = LZ4F_isError(count) == 0
      filled = isGood ? count : 0
    }
    output += piece
    return isGood
  }
}

/// Reads one LZ4 frame. Owned by one reader.
final class FrameDecoder: @unchecked Sendable {
  private let context: OpaquePointer

  init?() {
    var context: OpaquePointer?
    guard LZ4F_isError(LZ4F_createDecompressionContext(&context, UInt32(LZ4F_VERSION))) == 0,
      let context
    else { return nil }
    self.context = context
  }

  deinit { LZ4F_freeDecompressionContext(context) }

  /// Decompresses from `input` into `output`. Returns how much of each was used and whether the frame is
  /// complete; nil if the bytes aren't a valid frame.
  func decode(
    _ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer
  ) -> (consumed: Int, produced: Int, isComplete: Bool)? {
    var consumed = input.count
    var produced = output.count
    let hint = LZ4F_decompress(
      context, output.baseAddress, &produced, input.baseAddress, &consumed, nil)
    guard LZ4F_isError(hint) == 0 else { return nil }
    return (consumed, produced, hint == 0)
  }
}
