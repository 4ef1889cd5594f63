import Synchronization

/// What all connections of a server hold for their peers, and how much that may be.
///
/// Each connection has bounds of its own (`HTTP2Limits`), generous ones, since a lone client may well ask for a
/// large answer. A thousand connections at their bounds would still be the end of the process. So each tells
/// here what it holds: answers that its peer doesn't read, messages that its peer doesn't finish. When the sum is
/// beyond the bound, connections that hold more than a share are ended, each as soon as it is looked at: with the
/// next byte to or from it, or within `keepAliveTimeout / 2`.
///
/// May be used from any thread.
public final class HeldBytes: Sendable {
  /// Bytes of all connections together.
  public let bound: Int
  /// Bytes that a connection may hold even then: those of ordinary clients, that have nothing to fear.
  public let share: Int
  private let total = Atomic<Int>(0)

  public init(bound: Int) {
    self.bound = bound
    share = max(bound / 256, 1)
  }

  /// Bytes that are held now.
  public var count: Int { total.load(ordering: .relaxed) }

  /// A connection holds so many bytes more, or less.
  ///
  /// - Returns: whether all together hold more than they may.
  func change(by difference: Int) -> Bool {
    total.wrappingAdd(difference, ordering: .relaxed).newValue > bound
  }
}
