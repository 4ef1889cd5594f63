import HTTP2
import MVCC
import Primitives
import Replica

/// The messages of one delivery on their way to the watchers of one stream after the other.
///
/// Clients put many watchers on one stream, and what they get of one batch differs in the watcher's id alone. So the
/// messages for a stream are laid behind each other and leave together, which costs a frame and a look at the
/// stream's windows for all of them instead of for each.
struct WatchFanOut {
  /// How much is gathered: what a DATA frame of the size that every peer takes holds.
  static let space = 16_384
  private static let prefixSize = 5
  /// The field's tag and the longest varint.
  private static let largestID = 11

  private let buffer: UnsafeMutableRawBufferPointer
  /// The response's header, encoded.
  private let header: UnsafeRawBufferPointer
  /// Its events, encoded.
  private let events: UnsafeRawBufferPointer
  private var used = 0

  /// All three are borrowed.
  ///
  /// - Parameter buffer: room for `space` bytes.
  init(
    buffer: UnsafeMutableRawBufferPointer, header: UnsafeRawBufferPointer,
    events: UnsafeRawBufferPointer
  ) {
    self.buffer = buffer
    self.header = header
    self.events = events
  }

  /// Whether even one message fits.
  static func takes(header: Int, events: Int) -> Bool {
    prefixSize + header + largestID + events <= space
  }

  /// Whether another message fits.
  var hasRoom: Bool {
    used + Self.prefixSize + header.count + Self.largestID + events.count <= buffer.count
  }

  /// Adds the message for a watcher; there must be room.
  mutating func append(_ watch: Int64) {
    let start = buffer.baseAddress! + used
    var end = start + Self.prefixSize
    end.copyMemory(from: header.baseAddress!, byteCount: header.count)
    end += header.count
    if watch != 0 {
      // Field 2, a varint.
      end.storeBytes(of: 0x10, as: UInt8.self)
      end += 1
      var rest = UInt64(bitPattern: watch)
      while rest >= 0x80 {
        end.storeBytes(of: UInt8(truncatingIfNeeded: rest) | 0x80, as: UInt8.self)
        end += 1
        rest >>= 7
      }
      end.storeBytes(of: UInt8(truncatingIfNeeded: rest), as: UInt8.self)
      end += 1
    }
    end.copyMemory(from: events.baseAddress!, byteCount: events.count)
    end += events.count
    let size = end - start - Self.prefixSize
    start.storeBytes(of: 0, as: UInt8.self)
    start.storeBytes(of: UInt32(truncatingIfNeeded: size).bigEndian, toByteOffset: 1, as: UInt32.self)
    used = end - buffer.baseAddress!
  }

  /// Sends what was gathered; returns how many bytes that were.
  mutating func send(to stream: WatchStream) -> Int {
    defer { used = 0 }
    if used > 0 {
      stream.connection.send(
        stream.stream, framed: UnsafeRawBufferPointer(rebasing: buffer[..<used]))
    }
    return used
  }
}

extension ServerLoop {
  /// Hands the events of a batch to the watchers that they concern.
  func deliver(_ delivery: WatchDelivery) {
    let run = delivery.events
    guard let first = run.parts.first, let last = run.parts.last else { return }
    let revision = max(run.through, last.revision)
    let term = front.status.term
    setHeader(revision, term)
    let limit = min(EtcdServerLimits.watchResponseBytes, settings.maxRequestBytes)
    // Usually the whole run goes to every watcher in one piece: then only the watcher's id differs.
    guard let whole = run.contiguousRange, whole.count <= limit,
      WatchFanOut.takes(header: header.count, events: whole.count)
    else {
      for id in delivery.watchers {
        if let watch = ready(id) { send(run, to: watch, run.through) }
      }
      return
    }
    let header = header
    withUnsafeTemporaryAllocation(byteCount: WatchFanOut.space, alignment: 8) { buffer in
      header.withUnsafeBytes { header in
        run.bytes.withUnsafeBytes { bytes in
          var fanOut = WatchFanOut(
            buffer: buffer, header: header, events: UnsafeRawBufferPointer(rebasing: bytes[whole]))
          var stream: WatchStream?
          func leave() {
            guard let stream else { return }
            metrics.sentBytes &+= UInt64(fanOut.send(to: stream))
            noteUnflushed(stream.connection)
          }
          for id in delivery.watchers {
            guard let watch = liveWatches[id] else { continue }
            if watch.stream !== stream || !fanOut.hasRoom {
              leave()
              stream = watch.stream
              guard ready(id) != nil else {
                stream = nil
                continue
              }
            }
            guard watch.next <= first.revision else {
              leave()
              send(run, to: watch, run.through)
              continue
            }
            watch.hasSent = true
            watch.next = run.through.next
            fanOut.append(watch.id)
          }
          leave()
        }
      }
    }
  }

  /// The watch, if its stream takes more; if not, it will catch up once its client has read: it would hold up nobody,
  /// but cost memory without bound.
  private func ready(_ id: WatcherID) -> Watch? {
    guard let watch = liveWatches[id] else { return nil }
    guard watch.stream.isCongested else { return watch }
    liveWatches[id] = nil
    front.cancelWatch(id)
    watch.state = .waitingForClient
    return nil
  }
}
