/// Reads of a Pod that schedulers, controllers and agents make often. A view is a value around the
/// object; nothing is copied or cached.
public struct PodView: ObjectView {
  public let object: Value

  public init(_ object: Value) {
    self.object = object
  }

  public enum Phase: String, Sendable {
    case pending = "Pending"
    case running = "Running"
    case succeeded = "Succeeded"
    case failed = "Failed"
    case unknown = "Unknown"
  }

  public enum QualityOfService: String, Sendable {
    case guaranteed = "Guaranteed"
    case burstable = "Burstable"
    case bestEffort = "BestEffort"
  }

  public var phase: Phase { object["status"]["phase"].string.flatMap(Phase.init) ?? .pending }
  /// Succeeded or failed: nothing of it runs any more.
  public var isFinished: Bool { phase == .succeeded || phase == .failed }
  /// The node that the pod is bound to; empty before.
  public var nodeName: String { object["spec"]["nodeName"].string ?? "" }
  public var schedulerName: String { object["spec"]["schedulerName"].string ?? "" }
  public var restartPolicy: String { object["spec"]["restartPolicy"].string ?? "Always" }
  public var containers: [Value] { object["spec"]["containers"].elements }
  public var initContainers: [Value] { object["spec"]["initContainers"].elements }
  public var tolerations: [Value] { object["spec"]["tolerations"].elements }
  public var nodeSelector: Value { object["spec"]["nodeSelector"] }
  public var priority: Int64 { object["spec"]["priority"].integer ?? 0 }
  public var isHostNetwork: Bool { object["spec"]["hostNetwork"] == true }
  public var isReady: Bool { condition("Ready")?["status"] == "True" }
  /// Seconds between asking the containers to end and killing them.
  public var gracePeriodSeconds: Int64 {
    object["metadata"]["deletionGracePeriodSeconds"].integer
      ?? object["spec"]["terminationGracePeriodSeconds"].integer ?? 30
  }

  /// Ready, and for at least `minReadySeconds`.
  public func isAvailable(minReadySeconds: Int64, now: Timestamp) -> Bool {
    guard let ready = condition("Ready"), ready["status"] == "True" else { return false }
    if minReadySeconds == 0 { return true }
    guard let since = ready["lastTransitionTime"].timestamp else { return false }
    return now.since(since) >= .seconds(minReadySeconds)
  }

  /// What the pod asks of its node: the sum over containers that run side by side, or what an init
  /// container needs if that is more, and the overhead.
  ///
  /// Sidecars (init containers that restart always) run beside everything that comes after them.
  public var requests: ResourceAmounts {
    var sidecars = ResourceAmounts()
    var peak = ResourceAmounts()
    for container in initContainers {
      let own = ResourceAmounts(container["resources"]["requests"])
      if container["restartPolicy"] == "Always" {
        sidecars.add(own)
        peak.raise(to: sidecars)
      } else {
        var sum = sidecars
        sum.add(own)
        peak.raise(to: sum)
      }
    }
    var total = sidecars
    for container in containers { total.add(ResourceAmounts(container["resources"]["requests"])) }
    total.raise(to: peak)
    total.add(ResourceAmounts(object["spec"]["overhead"]))
    return total
  }

  /// Guaranteed if every container limits CPU and memory and requests as much; best effort if none
  /// requests or limits anything.
  public var qualityOfService: QualityOfService {
    var isGuaranteed = true
    var isBestEffort = true
    for container in containers + initContainers {
      let resources = container["resources"]
      for name in ["cpu", "memory"] {
        let limit = resources["limits"][name].quantity ?? .zero
        let request = resources["requests"][name].quantity ?? limit
        if !limit.isZero || !request.isZero { isBestEffort = false }
        if limit.isZero || request != limit { isGuaranteed = false }
      }
    }
    return isBestEffort ? .bestEffort : isGuaranteed ? .guaranteed : .burstable
  }

  /// The host ports that the pod takes: protocol, address (empty for all) and number.
  public var hostPorts: [(protocol: String, address: String, port: Int64)] {
    containers.flatMap { container in
      container["ports"].elements.compactMap { port in
        guard let number = port["hostPort"].integer, number > 0 else { return nil }
        return (port["protocol"].string ?? "TCP", port["hostIP"].string ?? "", number)
      }
    }
  }

  public func containerStatus(_ name: String) -> Value? {
    object["status"]["containerStatuses"].elements.first { $0["name"].string == name }
  }

  /// Whether the pod bears a taint.
  public func tolerates(_ taint: Value) -> Bool {
    tolerations.contains { Taint.isTolerated(taint, by: $0) }
  }
}

/// Amounts of resources by name, in order of appearance.
public struct ResourceAmounts: Sendable, Equatable {
  public private(set) var amounts: [(name: String, amount: Quantity)] = []

  public init() {}

  /// Reads a map of quantities; what isn't one is left out.
  public init(_ map: Value) {
    for member in map.members {
      if let amount = member.value.quantity { self[member.key] = amount }
    }
  }

  /// Zero for what isn't there.
  public subscript(name: String) -> Quantity {
    get { amounts.first { $0.name == name }?.amount ?? .zero }
    set {
      if let index = amounts.firstIndex(where: { $0.name == name }) {
        amounts[index].amount = newValue
      } else {
        amounts.append((name, newValue))
      }
    }
  }

  public mutating func add(_ other: ResourceAmounts) {
    for (name, amount) in other.amounts { self[name] += amount }
  }

  public mutating func subtract(_ other: ResourceAmounts) {
    for (name, amount) in other.amounts { self[name] -= amount }
  }

  /// Takes the greater of both for each resource.
  public mutating func raise(to other: ResourceAmounts) {
    for (name, amount) in other.amounts where amount > self[name] { self[name] = amount }
  }

  public static func == (a: ResourceAmounts, b: ResourceAmounts) -> Bool {
    let names = Set(a.amounts.map(\.name) + b.amounts.map(\.name))
    return names.allSatisfy { a[$0] == b[$0] }
  }

  /// As a map of canonical quantities.
  public var value: Value {
    .object(Value.Object(amounts.map { ($0.name, Value($0.amount)) }))
  }
}

public enum Taint {
  /// Whether one toleration bears one taint.
  public static func isTolerated(_ taint: Value, by toleration: Value) -> Bool {
    let effect = toleration["effect"].string ?? ""
    if !effect.isEmpty, effect != taint["effect"].string { return false }
    let key = toleration["key"].string ?? ""
    if !key.isEmpty, key != taint["key"].string { return false }
    switch toleration["operator"].string ?? "" {
    case "", "Equal":
      return (toleration["value"].string ?? "") == (taint["value"].string ?? "")
    case "Exists": return true
    default: return false
    }
  }
}
