import KubeAPI
import Synchronization

extension CrunRuntime {
  public func usage(of sandboxes: [SandboxStatus], now: Timestamp) async -> RuntimeUsage {
    let paths: [(SandboxID, String)]
    let containers: [(ContainerID, String)]
    (paths, containers) = state.withLock { state in
      let known = sandboxes.compactMap { sandbox in
        state.sandboxes[sandbox.id].map { (sandbox.id, $0) }
      }
      return (
        known.map { ($0.0, $0.1.record.cgroupPath) },
        known.flatMap { pair in
          pair.1.containers.compactMap { id, container in
            if case .running = container.state.state { (id, container.record.cgroupPath) } else { nil }
          }
        }
      )
    }
    let cgroups = cgroups
    let usage = try? await blocking {
      var usage = RuntimeUsage()
      for (id, path) in paths { usage.sandboxes[id] = cgroups.usage(path, now: now) }
      for (id, path) in containers { usage.containers[id] = cgroups.usage(path, now: now) }
      return usage
    }
    return usage ?? RuntimeUsage()
  }
}
