/// Events exist in two groups with different names for the same things. They are stored as v1, so
/// both groups see every event.
enum EventConversion {
  /// Field of events.k8s.io/v1, field of v1.
  private static let renamed = [
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
  ]

  @Sendable static func toCore(_ event: Value) -> Value {
    convert(event, apiVersion: "v1", names: renamed)
  }

  @Sendable static func fromCore(_ event: Value) -> Value {
    convert(event, apiVersion: "events.k8s.io/v1", names: renamed.map { ($1, $0) })
  }

  private static func convert(
    _ event: Value, apiVersion: String, names: [(from: String, to: String)]
  ) -> Value {
    var result = Value.Object()
    for member in event.members {
      let name = names.first { $0.from == member.key }?.to ?? member.key
      result.set(name, to: member.key == "apiVersion" ? Value(apiVersion) : member.value)
    }
    return .object(result)
  }
}
