/// Every bound of an HTTP/2 connection, and why it has its value.
///
/// The defaults fit a server of small gRPC calls with long-lived streams. They are far from what
/// real clients do, and near enough to stop those that only want to cost us memory or time.
public struct HTTP2Limits: Sendable {
  public init() {}

  // MARK: Announced to the peer

  /// Streams that the peer may have open at once. etcd's default is unlimited (its library's
  /// 2^32-1); a bound this high stops nobody real, and 20,000 idle streams cost some 3 MB.
  public var maxConcurrentStreams = 20_000
  /// The largest frame payload taken, in bytes. The protocol's minimum: a frame is buffered whole
  /// before it is acted upon, and larger frames gained nothing for small requests.
  public var maxFrameSize = 16_384
  /// Bytes of DATA in flight to us per stream. A whole request of etcd's largest size (1.5 MiB)
  /// arrives without waiting for a window update.
  public var streamReceiveWindow = 2 << 20
  /// Bytes of DATA in flight to us over all streams of a connection.
  public var connectionReceiveWindow = 16 << 20
  /// Bytes of names and values plus 32 per field (RFC 9113, 6.5.2) of one header section. grpc-go's
  /// default is 16 MiB; tokens and client certificates' forwarded names fit in far less.
  public var maxHeaderListSize = 64 << 10
  /// Bytes that the peer's header compression may use here. The protocol's default.
  public var headerTableSize = 4_096

  // MARK: Header blocks

  /// Compressed bytes of one header block over HEADERS and its CONTINUATIONs.
  public var maxHeaderBlockBytes = 64 << 10
  /// CONTINUATION frames of one block: enough for `maxHeaderBlockBytes` in full frames several times
  /// over; a flood of tiny ones (CVE-2024-27316) ends the connection.
  public var maxContinuationFrames = 32
  /// Fields in one header section, whatever their size.
  public var maxHeaderFields = 512

  // MARK: Floods. A budget regains `perSecond` up to `burst`; running dry ends the connection
  // with ENHANCE_YOUR_CALM.

  /// PING, PRIORITY, unknown frames and window updates that open nothing. A grpc-go client sends a
  /// bandwidth probe PING per round trip while it receives data, so each DATA or HEADERS frame that
  /// we send returns `controlFramesEarnedPerFrameSent` to the budget.
  public var controlFrames = Budget(burst: 10_000, perSecond: 1_000)
  public var controlFramesEarnedPerFrameSent = 2
  /// SETTINGS: clients send one, and grpc-go another whenever its bandwidth estimate changes.
  public var settingsFrames = Budget(burst: 200, perSecond: 10)
  /// Streams that the peer cancels before our answer ended (CVE-2023-44487, rapid reset). A client
  /// that closes drops all its watches at once; each stream that ends well returns one.
  public var prematureResets = Budget(burst: 5_000, perSecond: 500)
  /// Streams that we reset because of the peer's mistakes.
  public var streamErrors = Budget(burst: 1_000, perSecond: 100)
  /// DATA frames without data that don't end a stream.
  public var emptyDataFrames = Budget(burst: 1_000, perSecond: 100)

  // MARK: What we hold for the peer

  /// DATA bytes are framed into the output only while it holds less than this many: beyond, they
  /// wait on their streams, so that a slow reader's other streams and control frames don't queue
  /// behind one large answer.
  public var outputTarget = 1 << 20
  /// Bytes waiting on streams above which new streams are refused (REFUSED_STREAM, which clients
  /// retry): the peer asks faster than it reads.
  public var queuedBytesToRefuseStreams = 64 << 20
  /// Bytes waiting on streams and in the output that end the connection.
  public var maxQueuedBytes = 1 << 30
  /// Bytes of messages whose end hasn't come, over all streams of a connection; more end it. Each may be as large
  /// as the largest message, and there are `maxConcurrentStreams`: thirty full ones at a time are plenty.
  public var maxUnfinishedBytes = 64 << 20
  /// Control frames (acknowledgements, resets) pile up in the output of a peer that never reads;
  /// the glue stops reading then, and this ends the connection should it not.
  public var maxOutputBytes = 64 << 20
  /// Distinct header templates whose encoding a connection keeps.
  public var maxCachedTemplates = 64

  // MARK: Time

  /// Silence after which we PING the peer. etcd's default is two hours; we notice dead peers sooner,
  /// since a leaked watch costs memory.
  public var keepAliveInterval = Duration.seconds(60)
  /// How long the peer may take to answer that PING before the connection is closed.
  public var keepAliveTimeout = Duration.seconds(20)
  /// How often the peer may PING while it has streams open; one without any may every `idlePingInterval`.
  /// Who is too early more than `maxPingStrikes` times, without a frame of ours in between, is told GOAWAY
  /// "too_many_pings". Nil, the default, leaves PINGs to `controlFrames`.
  ///
  /// Source: gRPC proposal A8, "client-side keepalive"; grpc-go's `keepalive.EnforcementPolicy`.
  public var minimumPingInterval: Duration?
  public static let idlePingInterval = Duration.seconds(7_200)
  public static let maxPingStrikes = 2
  /// How long streams may go on after GOAWAY before the connection is closed.
  public var drainTimeout = Duration.seconds(10)

  /// A token bucket's shape: what may come at once, and what comes back each second.
  public struct Budget: Sendable, Hashable {
    public var burst: Int
    public var perSecond: Int
    public init(burst: Int, perSecond: Int) {
      self.burst = burst
      self.perSecond = perSecond
    }
  }
}
