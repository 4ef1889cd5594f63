import ArgumentParser
import Controllers
import EtcdServer

/// The flags of ``NodeMonitoring``, by kube-controller-manager's names.
struct NodeMonitoringFlags: ParsableArguments {
  @Option(help: "How often the controllers look whether nodes have fallen silent.")
  var nodeMonitorPeriod = "5s"

  @Option(help: "Silence after which a node counts as lost.")
  var nodeMonitorGracePeriod = "50s"

  @Option(help: "The same for a node that has never reported.")
  var nodeStartupGracePeriod = "1m0s"

  @Option(help: "Lost nodes a second whose pods begin to leave.")
  var nodeEvictionRate = 0.1

  @Option(help: "The same while many nodes of a large cluster are lost.")
  var secondaryNodeEvictionRate = 0.01

  @Option(help: "Nodes above which a cluster is large; in a smaller one no pod leaves while many are lost.")
  var largeClusterSizeThreshold = 50

  @Option(help: "The part of the nodes that must be lost to be many.")
  var unhealthyZoneThreshold = 0.55

  func settings() throws -> NodeMonitoring {
    var settings = NodeMonitoring()
    settings.period = try Self.duration(nodeMonitorPeriod, "--node-monitor-period")
    settings.gracePeriod = try Self.duration(nodeMonitorGracePeriod, "--node-monitor-grace-period")
    settings.startupGracePeriod = try Self.duration(
      nodeStartupGracePeriod, "--node-startup-grace-period")
    guard nodeEvictionRate >= 0, secondaryNodeEvictionRate >= 0, largeClusterSizeThreshold >= 0,
      (0...1).contains(unhealthyZoneThreshold)
    else {
      throw UsageFailure("eviction rates must not be negative, and --unhealthy-zone-threshold at most 1")
    }
    settings.evictionRate = nodeEvictionRate
    settings.secondaryEvictionRate = secondaryNodeEvictionRate
    settings.largeClusterSize = largeClusterSizeThreshold
    settings.unhealthyThreshold = unhealthyZoneThreshold
    return settings
  }

  static func duration(_ text: String, _ flag: String) throws -> Duration {
    guard let duration = GoDuration.parse(text), duration > .zero else {
      throw UsageFailure("\(flag) must be a duration such as 5s or 1m30s, not '\(text)'")
    }
    return duration
  }
}
