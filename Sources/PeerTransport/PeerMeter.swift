import Glibc
import NIOCore
import Primitives
import Replica
import Synchronization

/// Counts what goes to and comes from one member, on whichever threads.
final class PeerMeter: Sendable {
  private let traffic: Mutex<PeerTraffic>

  init(_ peer: NodeID) { traffic = Mutex(PeerTraffic(peer: peer)) }

  var current: PeerTraffic { traffic.withLock { $0 } }

  func sent(_ bytes: Int) { traffic.withLock { $0.sentBytes &+= UInt64(bytes) } }
  func received(_ bytes: Int) { traffic.withLock { $0.receivedBytes &+= UInt64(bytes) } }
  func dropped() { traffic.withLock { $0.sendFailures &+= 1 } }
  func connected(_ isConnected: Bool) { traffic.withLock { $0.isConnected = isConnected } }

  /// Asks the system how long the connection's round trips take.
  func sample(_ channel: any Channel) {
    guard let provider = channel as? any SocketOptionProvider else { return }
    provider.getTCPInfo().whenSuccess { info in
      self.traffic.withLock { $0.roundTrip.record(seconds: Double(info.tcpi_rtt) / 1e6) }
    }
  }
}
