import Primitives

/// What some clients asked and were told, and when.
///
/// Times are of one clock that all of them share: nanoseconds, of a simulated clock or of the machine that ran
/// them. Of a request that was answered, `end` is when its client had the answer.
public struct History: Sendable {
  public struct Call: Sendable {
    public var client: Int
    public var request: ModelRequest
    public var start: UInt64
    /// When the answer was there; the end of time where there is none.
    public var end: UInt64
    public var outcome: ModelOutcome

    public init(
      client: Int, request: ModelRequest, start: UInt64, end: UInt64, outcome: ModelOutcome
    ) {
      self.client = client
      self.request = request
      self.start = start
      self.end = end
      self.outcome = outcome
    }
  }

  public private(set) var calls: [Call] = []

  public init() {}

  /// Notes that a client asks something; the outcome is unknown until `finish` says it.
  ///
  /// - Returns: the call's number, for `finish`.
  public mutating func begin(_ request: ModelRequest, client: Int, at time: UInt64) -> Int {
    calls.append(
      Call(client: client, request: request, start: time, end: .max, outcome: .unknown))
    return calls.count - 1
  }

  /// Notes how a call ended. One that ends as unknown stays open for ever: it may happen any time.
  public mutating func finish(_ call: Int, _ outcome: ModelOutcome, at time: UInt64) {
    calls[call].outcome = outcome
    calls[call].end = outcome == .unknown ? .max : time
  }
}

/// A promise that was broken, in words for whoever must find out why.
public struct BrokenGuarantee: Error, Hashable, Sendable, CustomStringConvertible {
  /// The guarantee's name: "Linearizable", or one of `WatchGuarantee`; "Undecided" if none is known to be broken.
  public var guarantee: String
  public var what: String

  public init(_ guarantee: String, _ what: String) {
    self.guarantee = guarantee
    self.what = what
  }

  /// Nothing was found broken, but too many outcomes are unknown to find an order in bounded time.
  static func undecided(_ what: String) -> BrokenGuarantee { BrokenGuarantee("Undecided", what) }
  public var isUndecided: Bool { guarantee == "Undecided" }

  public var description: String { "\(guarantee): \(what)" }
}
