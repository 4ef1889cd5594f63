import Primitives

/// An HTTP/2 connection as a state machine over bytes: RFC 9113, either role, no I/O, no clock.
///
/// # The problem
///
/// An etcd request is a hundred bytes that a hash table answers in a microsecond. A general HTTP/2
/// stack spends 20 to 100 µs on it: an object and a channel per stream, a string per header, a future
/// per write. What the protocol itself demands is little: nine bytes of frame header, a table look-up,
/// two window counters.
///
/// # The design
///
/// The connection reads frames where they lie in the read buffer and answers into one growing output
/// buffer. Nothing is allocated per stream or per header:
///
///     bytes in ──▶ nextEvent ──▶ headers / data / trailers / reset / writable / …
///                     ▲                       │ the user answers at once or later
///                     └── streams, windows ◀──┤ sendHeaders, sendData, sendTrailers, sendUnary
///     bytes out ◀── output ◀──────────────────┘
///
/// Events are pulled, not called back, so the user may call any method while handling one, and a
/// test is a list of bytes in and events out. A DATA event borrows the read buffer; a head is a
/// `HeaderBlock` whose bytes are borrowed too (see there for why most heads are not even decoded).
///
/// *Sending.* DATA goes to the output while the peer's windows and `limits.outputTarget` allow,
/// the rest waits on its stream; `pump` serves waiting streams in turn, a frame each, so one large
/// answer doesn't starve the others. Trailers wait behind their data. Header blocks are encoded at
/// the moment they enter the output, since compression depends on the order on the wire.
///
/// *Receiving.* By default DATA counts as consumed when its event has been handed out, and windows
/// are given back in steps of half a window. With `automaticWindowUpdates` off, a stream's window
/// opens only as the user calls `consume`.
///
/// *Errors.* A mistake about one stream resets it and is reported as `.reset`. A mistake about the
/// connection writes GOAWAY and is reported as `.failed`, after which input is ignored; the user sends
/// what is in the output and closes. No input traps.
///
/// *Abuse.* Everything a peer can make us do or keep without giving anything has a budget or a bound in
/// `HTTP2Limits`.
///
/// # A worked example: one gRPC call
///
///     in   HEADERS(1, end of headers)     -> .headers(1): block.path is "/etcdserverpb.KV/Put"
///     in   DATA(1, end of stream)         -> .data(1, 5-byte prefix and message, endStream)
///     out  sendUnary(1, …)                   HEADERS, DATA and trailers in 50 bytes and the message
///
/// # What is left out
///
/// Server push (disabled by either role), priorities (deprecated; PRIORITY frames are checked and
/// ignored), upgrade from HTTP/1.1 (`PrefaceDetector` tells the two apart), extended CONNECT.
public final class HTTP2Connection {
  public enum Role: Sendable { case client, server }

  /// What happened. Bytes and header blocks are borrowed until the next call of `nextEvent`.
  public enum Event {
    /// A request's head (server) or a final response's (client); it is in `headers`.
    case headers(StreamID, endStream: Bool)
    /// A piece of the body, straight from the read buffer.
    case data(StreamID, UnsafeRawBufferPointer, endStream: Bool)
    /// The trailers, which end the peer's half; they are in `headers`.
    case trailers(StreamID)
    /// The stream was reset by the peer, or by us over the peer's mistake. It is gone.
    case reset(StreamID, HTTP2ErrorCode)
    /// All that had to wait on the stream is in the output now.
    case writable(StreamID)
    /// The peer's settings changed: a client may be allowed more streams.
    case settings
    /// The peer takes no streams beyond `lastStream`. A client's streams beyond it get a `.reset` with
    /// REFUSED_STREAM of their own: they were not processed.
    case goAway(lastStream: StreamID, HTTP2ErrorCode)
    /// The answer to `ping`.
    case pong(UInt64)
    /// The connection is at its end; GOAWAY is in the output.
    case failed(HTTP2Error)
  }

  /// The bytes of one read, and how many of them have been used.
  public struct Input {
    public let bytes: UnsafeRawBufferPointer
    public internal(set) var offset = 0
    public init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }
    @inline(__always) var remaining: Int { bytes.count &- offset }
  }

  public let role: Role
  public let limits: HTTP2Limits
  /// Whether DATA counts as consumed once its event was handed out.
  public let automaticWindowUpdates: Bool
  /// Bytes for the peer. The glue sends them, empties the sink and calls `pump`.
  public let output = ByteSink()
  /// The head or trailers of the last `.headers` or `.trailers` event.
  public internal(set) var headers = HeaderBlock()
  /// The tag of the last event's stream, also where that event ended the stream.
  public internal(set) var eventTag: UInt64 = 0
  /// The time that budgets and keep-alives go by; the glue sets it once per read.
  public var now = Instant.origin

  // MARK: State of the whole connection

  enum Phase { case open, failed }
  var phase = Phase.open
  /// Bytes of the client's preface that are still to come.
  var prefaceRemaining: Int
  /// The first frame must be SETTINGS.
  var expectsSettings = true
  /// Events that one frame caused beyond its own, with their streams' tags.
  var pendingEvents: [(event: Event, tag: UInt64)] = []
  var nextPendingEvent = 0

  var streams = StreamTable()
  /// The highest stream the peer has opened.
  var lastPeerStream: UInt32 = 0
  /// The next stream that we would open (clients).
  var nextOwnStream: UInt32 = 1
  /// Streams that we reset lately: what was under way for them is ignored, not an error.
  var recentlyReset = RecentStreams()

  var decoder: HPACKDecoder
  var encoder: HPACKEncoder
  /// A header block that CONTINUATIONs are still adding to.
  var assembly: HeaderAssembly?

  // MARK: Windows

  var sendWindow = HTTP2Connection.defaultWindow
  var receiveWindow: Int
  var unannounced = 0
  /// Streams with queued bytes and an open window, served in turn.
  var ready: [UInt32] = []
  /// Bytes queued on all streams.
  public internal(set) var queuedBytes = 0
  /// Bytes of messages whose end hasn't come, which the user of the connection keeps and counts here.
  public var unfinishedBytes = 0

  // MARK: The peer's settings

  var peerInitialWindow = HTTP2Connection.defaultWindow
  var peerMaxFrameSize = 16_384
  public internal(set) var peerMaxConcurrentStreams = Int.max
  /// Settings of ours that the peer has not acknowledged.
  var unacknowledgedSettings = 0

  // MARK: The end

  /// The peer's GOAWAY, once received.
  public internal(set) var isPeerGoingAway = false
  /// We sent GOAWAY: streams above are ignored.
  var goAwayLimit: UInt32?
  /// `drain` was called.
  public internal(set) var isDraining = false

  // MARK: Budgets and keep-alive

  var controlBudget: FloodBudget
  var pings = PingPolicy()
  var settingsBudget: FloodBudget
  var prematureResetBudget: FloodBudget
  var streamErrorBudget: FloodBudget
  var emptyDataBudget: FloodBudget
  var lastReceived = Instant.origin
  var keepAliveSentAt: Instant?

  static let defaultWindow = 65_535
  static let largestWindow = 0x7FFF_FFFF
  static let preface: StaticString = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
  /// The opaque data of our own PINGs.
  static let keepAlivePing: UInt64 = 0x6D61_7274_6C65_7401
  static let drainPing: UInt64 = 0x6D61_7274_6C65_7402

  /// A connection whose first bytes (`start`) are still to be written.
  public init(role: Role, limits: HTTP2Limits = HTTP2Limits(), automaticWindowUpdates: Bool = true)
  {
    self.role = role
    self.limits = limits
    self.automaticWindowUpdates = automaticWindowUpdates
    prefaceRemaining = role == .server ? Self.preface.utf8CodeUnitCount : 0
    receiveWindow = Self.defaultWindow
    decoder = HPACKDecoder(
      tableSize: limits.headerTableSize, maxListSize: limits.maxHeaderListSize,
      maxFields: limits.maxHeaderFields)
    encoder = HPACKEncoder(maxCachedTemplates: limits.maxCachedTemplates)
    controlBudget = FloodBudget(limits.controlFrames)
    settingsBudget = FloodBudget(limits.settingsFrames)
    prematureResetBudget = FloodBudget(limits.prematureResets)
    streamErrorBudget = FloodBudget(limits.streamErrors)
    emptyDataBudget = FloodBudget(limits.emptyDataFrames)
  }

  /// Open streams, of both sides.
  public var streamCount: Int { streams.count }

  /// No more input is looked at: the connection failed.
  public var isFailed: Bool { phase == .failed }

  /// Draining, and the last stream is done: the connection can be closed once the output is sent.
  public var isDrained: Bool {
    (isDraining || isPeerGoingAway) && streams.count == 0 && output.isEmpty
  }

  /// Whether a client may open one more stream now.
  public var canOpenStream: Bool {
    role == .client && phase == .open && !isPeerGoingAway && !isDraining
      && streams.count < peerMaxConcurrentStreams && nextOwnStream <= StreamID.last.rawValue
  }

  /// Bytes that wait on the stream for the peer's windows or for the output to empty.
  public func queuedBytes(on stream: StreamID) -> Int {
    let slot = streams.find(stream.rawValue)
    return slot < 0 ? 0 : streams.slots[slot].queue?.count ?? 0
  }

  /// Whether the stream is known: neither reset nor ended on both sides.
  public func isOpen(_ stream: StreamID) -> Bool { streams.find(stream.rawValue) >= 0 }

  /// Whether the peer has ended its half of the stream (true as well for streams that are gone).
  public func isReceiveClosed(_ stream: StreamID) -> Bool {
    let slot = streams.find(stream.rawValue)
    return slot < 0 || streams.slots[slot].receiveClosed
  }

  /// A word of the user's about a stream; 0 until set and for unknown streams.
  public func tag(of stream: StreamID) -> UInt64 {
    let slot = streams.find(stream.rawValue)
    return slot < 0 ? 0 : streams.slots[slot].tag
  }

  public func setTag(_ tag: UInt64, of stream: StreamID) {
    let slot = streams.find(stream.rawValue)
    if slot >= 0 { streams.slots[slot].tag = tag }
  }

  /// When the stream's user wants it over, by the user's own clock; nil until set.
  public func deadline(of stream: StreamID) -> Instant? {
    let slot = streams.find(stream.rawValue)
    return slot < 0 ? nil : streams.slots[slot].deadline
  }

  public func setDeadline(_ deadline: Instant, of stream: StreamID) {
    let slot = streams.find(stream.rawValue)
    if slot >= 0 { streams.slots[slot].deadline = deadline }
  }

  /// The open streams, lowest first. For the end of a connection; O(n log n).
  public var openStreams: [StreamID] { streams.ids.map { StreamID($0) } }
}

/// A header block in pieces.
struct HeaderAssembly {
  var stream: UInt32
  var endStream: Bool
  var bytes: [UInt8]
  var continuations = 0
}

/// The last streams that we reset, for ignoring what the peer sent before it knew.
struct RecentStreams {
  private var ring = [UInt32](repeating: 0, count: 64)
  private var next = 0
  /// While streams of more resets than the ring holds can be in flight, be lenient below this one.
  private var highest: UInt32 = 0

  mutating func insert(_ id: UInt32) {
    ring[next] = id
    next = (next + 1) % ring.count
    highest = max(highest, id)
  }

  func contains(_ id: UInt32) -> Bool { id <= highest && ring.contains(id) }
}
