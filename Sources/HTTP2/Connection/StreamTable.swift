import Primitives

/// The streams that are open, found by number.
///
/// Open addressing over powers of two: a peer's streams rise by two, so half a stream's number is
/// already a perfect spread, and only long-lived streams make a search take a second step. Streams live
/// in slots that don't move while a stream is open.
struct StreamTable {
  private var keys: [UInt32]
  private var positions: [Int32]
  private var freeSlots: [Int32] = []
  var slots: [HTTP2Stream] = []
  private(set) var count = 0

  init() {
    keys = Array(repeating: 0, count: 64)
    positions = Array(repeating: 0, count: 64)
  }

  /// The stream's slot, or -1.
  @inline(__always)
  func find(_ id: UInt32) -> Int {
    let mask = keys.count &- 1
    var place = Int(id >> 1) & mask
    while true {
      let key = keys[place]
      if key == 0 { return -1 }
      if key == id { return Int(positions[place]) }
      place = (place &+ 1) & mask
    }
  }

  /// Adds a stream that is not in the table and returns its slot.
  mutating func insert(_ stream: HTTP2Stream) -> Int {
    if (count + 1) * 2 > keys.count { grow() }
    let slot: Int
    if let free = freeSlots.popLast() {
      slot = Int(free)
      slots[slot] = stream
    } else {
      slot = slots.count
      slots.append(stream)
    }
    place(stream.id, at: Int32(slot))
    count += 1
    return slot
  }

  mutating func remove(_ id: UInt32) {
    let mask = keys.count &- 1
    var hole = Int(id >> 1) & mask
    while keys[hole] != id {
      if keys[hole] == 0 { return }
      hole = (hole &+ 1) & mask
    }
    let slot = positions[hole]
    slots[Int(slot)].id = 0
    slots[Int(slot)].queue = nil
    freeSlots.append(slot)
    count -= 1
    // Close the gap: whatever could not lie nearer to its place because of it moves back.
    var next = (hole &+ 1) & mask
    while keys[next] != 0 {
      let home = Int(keys[next] >> 1) & mask
      if (next &- home) & mask >= (next &- hole) & mask {
        keys[hole] = keys[next]
        positions[hole] = positions[next]
        hole = next
      }
      next = (next &+ 1) & mask
    }
    keys[hole] = 0
  }

  /// The numbers of all open streams, lowest first.
  var ids: [UInt32] { slots.lazy.map(\.id).filter { $0 != 0 }.sorted() }

  private mutating func place(_ id: UInt32, at slot: Int32) {
    let mask = keys.count &- 1
    var place = Int(id >> 1) & mask
    while keys[place] != 0 { place = (place &+ 1) & mask }
    keys[place] = id
    positions[place] = slot
  }

  private mutating func grow() {
    keys = Array(repeating: 0, count: keys.count * 2)
    positions = Array(repeating: 0, count: keys.count)
    for (slot, stream) in slots.enumerated() where stream.id != 0 {
      place(stream.id, at: Int32(slot))
    }
  }
}

/// One open stream. Source of the states: RFC 9113, section 5.1; here they are two halves.
struct HTTP2Stream {
  /// Zero in a slot that is free.
  var id: UInt32
  /// Bytes of DATA that the peer lets us send; negative after it has lowered its initial window.
  var sendWindow: Int
  /// Bytes of DATA that the peer may still send.
  var receiveWindow: Int
  /// Bytes received and consumed that no WINDOW_UPDATE has given back yet.
  var unannounced = 0
  /// What `content-length` leaves to come, or -1 where it said nothing.
  var contentRemaining: Int64 = -1
  /// The user's own word about the stream.
  var tag: UInt64 = 0
  /// The user's own time-out of the stream.
  var deadline: Instant?
  /// Bytes that wait for the peer's windows or for the output to empty.
  var queue: SendQueue?
  /// The peer has ended its half.
  var receiveClosed = false
  /// We have ended our half, on the wire.
  var sendClosed = false
  /// We have ended our half, perhaps behind queued bytes.
  var endRequested = false
  var headSent = false
  /// The peer's head (on a client, the final response's) has come.
  var headReceived = false
  /// In the list of streams that have something to send and a window for it.
  var isReady = false

  init(id: UInt32, sendWindow: Int, receiveWindow: Int) {
    self.id = id
    self.sendWindow = sendWindow
    self.receiveWindow = receiveWindow
  }
}

/// What one stream could not send yet: chunks of DATA, then perhaps trailers.
final class SendQueue {
  private var chunks: [[UInt8]] = []
  private var firstChunk = 0
  private var offset = 0
  private(set) var count = 0
  var trailers: HeaderTemplate?

  /// Small pieces are collected in chunks of this size.
  private static let chunkSize = 16_384

  func append(_ bytes: UnsafeRawBufferPointer) {
    if bytes.isEmpty { return }
    count += bytes.count
    if let last = chunks.indices.last, last >= firstChunk,
      chunks[last].count + bytes.count <= Self.chunkSize
    {
      chunks[last].append(contentsOf: bytes)
    } else {
      chunks.append(Array(bytes))
    }
  }

  /// Hands over `wanted` bytes, at most `count`, to `sink`.
  func take(_ wanted: Int, into sink: ByteSink) {
    var left = wanted
    while left > 0, firstChunk < chunks.count {
      let piece = min(left, chunks[firstChunk].count - offset)
      chunks[firstChunk].withUnsafeBytes {
        sink.append(UnsafeRawBufferPointer(rebasing: $0[offset..<(offset + piece)]))
      }
      offset += piece
      left -= piece
      count -= piece
      if offset == chunks[firstChunk].count {
        chunks[firstChunk] = []
        firstChunk += 1
        offset = 0
      }
    }
    if firstChunk == chunks.count {
      chunks.removeAll(keepingCapacity: true)
      firstChunk = 0
    } else if firstChunk > 64, firstChunk * 2 > chunks.count {
      chunks.removeSubrange(0..<firstChunk)
      firstChunk = 0
    }
  }
}
