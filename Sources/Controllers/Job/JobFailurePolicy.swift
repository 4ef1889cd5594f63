import KubeAPI

/// What a Job's `podFailurePolicy` says of a pod that failed. Source: Kubernetes, "Pod failure policy".
enum JobFailurePolicy {
  enum Verdict: Equatable { case count, ignore, failIndex, failJob }

  static func verdict(_ job: JobView, _ pod: PodView) -> Verdict {
    guard let (_, rule) = match(job, pod) else { return .count }
    switch rule["action"].string {
    case "FailJob": return .failJob
    case "FailIndex": return job.backoffLimitPerIndex == nil ? .count : .failIndex
    case "Ignore": return .ignore
    default: return .count
    }
  }

  static func message(_ job: JobView, _ pod: PodView) -> String {
    guard let (number, rule) = match(job, pod) else { return "" }
    let subject: String
    if !rule["onExitCodes"].isNull {
      let (name, code) =
        exits(pod).first { matches(rule["onExitCodes"], $0.name, $0.code) }
        ?? ("", 0)
      subject = "Container \(name) for pod \(pod.key) failed with exit code \(code)"
    } else {
      let type = rule["onPodConditions"].elements.first { isMet($0, pod) }?["type"].string ?? ""
      subject = "Pod \(pod.key) has condition \(type)"
    }
    return "\(subject) matching FailJob rule at index \(number)"
  }

  private static func match(_ job: JobView, _ pod: PodView) -> (Int, Value)? {
    for (number, rule) in job.object["spec"]["podFailurePolicy"]["rules"].elements.enumerated() {
      let codes = rule["onExitCodes"]
      if !codes.isNull {
        if exits(pod).contains(where: { matches(codes, $0.name, $0.code) }) {
          return (number, rule)
        }
      } else if rule["onPodConditions"].elements.contains(where: { isMet($0, pod) }) {
        return (number, rule)
      }
    }
    return nil
  }

  /// Containers that ended with something else than success.
  private static func exits(_ pod: PodView) -> [(name: String, code: Int64)] {
    ["containerStatuses", "initContainerStatuses"].flatMap { list in
      pod.object["status"][list].elements.compactMap { status in
        guard let code = status["state"]["terminated"]["exitCode"].integer, code != 0 else {
          return nil
        }
        return (status["name"].string ?? "", code)
      }
    }
  }

  private static func matches(_ rule: Value, _ name: String, _ code: Int64) -> Bool {
    if let wanted = rule["containerName"].string, wanted != name { return false }
    let isListed = rule["values"].elements.contains { $0.integer == code }
    return rule["operator"] == "NotIn" ? !isListed : isListed
  }

  private static func isMet(_ pattern: Value, _ pod: PodView) -> Bool {
    pod.condition(pattern["type"].string ?? "")?["status"].string
      == (pattern["status"].string ?? "True")
  }
}
