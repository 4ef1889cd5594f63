import ArgumentParser
import Foundation
import NIOCore
import NIOPosix

/// Opens connections with watchers on them and then only holds them, until its input ends: what is measured
/// meanwhile is what they cost the servers.
struct Hold: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Opens connections and watchers, prints \"ready\", and holds them until its input ends.")
  @OptionGroup var options: RunOptions

  @Option(name: .long, help: "Watchers, spread over the connections, each of a key of its own.")
  var watchers = 0

  func run() throws {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: options.threads)
    let loops = Array(group.makeIterator())
    let observations = loops.map { LoopRecorder(eventLoop: $0) }
    let servers = try ClientChannel.all(options)
    let connections = (0..<options.connections).map { index in
      WatchConnection(
        observations: observations[index % loops.count], server: servers[index % servers.count],
        prefixes: stride(from: index, to: watchers, by: options.connections)
          .map { WatchRun.prefix($0) })
    }
    // A burst of connections is limited by the servers' queue of those not yet accepted.
    for start in stride(from: 0, to: connections.count, by: Self.burst) {
      let burst = connections[start..<min(start + Self.burst, connections.count)]
      try EventLoopFuture.andAllSucceed(burst.map { $0.connect() }, on: group.next()).wait()
    }
    for connection in connections { try connection.watch().wait() }
    print("ready: \(connections.count) connections, \(watchers) watchers")
    fflush(nil)
    while readLine() != nil {}
  }

  private static let burst = 256
}
