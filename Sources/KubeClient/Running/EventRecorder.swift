import Foundation
import KubeAPI
import Logging
import Synchronization

/// Writes Events, the lines that `kubectl describe` shows, without making the caller wait.
///
/// What is said too often is told in fewer words (`EventCorrelator`). An event that can't be written is dropped: it
/// is advice, never state.
public final class EventRecorder: Sendable {
  public enum Kind: String, Sendable {
    case normal = "Normal"
    case warning = "Warning"
  }

  private let client: APIClient
  private let component: @Sendable (Value) -> String
  private let host: String
  private let log: Logger
  private let correlator = Mutex(EventCorrelator())
  private let pending: AsyncStream<@Sendable () async -> Void>.Continuation

  public convenience init(
    client: APIClient, component: String, host: String = "", log: Logger
  ) {
    self.init(client: client, host: host, log: log) { _ in component }
  }

  /// - Parameter component: who speaks, by the object that is spoken of.
  public init(
    client: APIClient, host: String = "", log: Logger,
    component: @escaping @Sendable (Value) -> String
  ) {
    self.client = client
    self.component = component
    self.host = host
    self.log = log
    // One writer, in order; a flood loses the newest.
    let (stream, continuation) = AsyncStream.makeStream(
      of: (@Sendable () async -> Void).self, bufferingPolicy: .bufferingOldest(1000))
    pending = continuation
    Task { for await write in stream { await write() } }
  }

  deinit { pending.finish() }

  /// Tells `reason` and `message` about `object`; `field` names a part of it
  /// (`spec.containers{web}`).
  public func record(
    _ object: Value, _ kind: Kind, reason: String, message: String, field: String = ""
  ) {
    let now = Timestamp.now
    pending.yield { [weak self] in
      await self?.write(object, kind, reason, message, field, now)
    }
  }

  private func write(
    _ object: Value, _ kind: Kind, _ reason: String, _ message: String, _ field: String,
    _ now: Timestamp
  ) async {
    let key = ObjectKey(object)
    let component = component(object)
    let subject = EventCorrelator.Subject(
      component: component, uid: object["metadata"]["uid"].string ?? "\(key)", field: field,
      kind: kind.rawValue, reason: reason, message: message)
    let namespace = key.namespace.isEmpty ? "default" : key.namespace
    let (outcome, told) = correlator.withLock { $0.judge(subject, now: .now) }
    var text = message
    switch outcome {
    case .drop: return
    case .create(let message): text = message
    case .raise(let name, let count, let message):
      text = message
      do {
        try await client.patch(
          .events, namespace: namespace, name: name, .merge,
          [
            "count": Value(count), "lastTimestamp": Value(now), "message": Value(message),
          ])
        return correlator.withLock { $0.note(told, name: name, count: count) }
      } catch let error as StatusError where error.code == 404 {
        // It has outlived its hour: tell it anew.
      } catch {
        return log.debug("an event was lost", metadata: ["error": "\(error)"])
      }
    }
    let suffix = String(UInt64.random(in: 0...UInt64.max), radix: 16)
    let name = "\(key.name.prefix(200)).\(suffix)"
    var involved: Value = [
      "kind": object["kind"], "apiVersion": object["apiVersion"], "name": Value(key.name),
      "uid": object["metadata"]["uid"],
    ]
    if !key.namespace.isEmpty { involved.set("namespace", to: Value(key.namespace)) }
    if let version = object["metadata"]["resourceVersion"].string {
      involved.set("resourceVersion", to: Value(version))
    }
    if !field.isEmpty { involved.set("fieldPath", to: Value(field)) }
    var source: Value = ["component": Value(component)]
    if !host.isEmpty { source.set("host", to: Value(host)) }
    let event: Value = [
      "kind": "Event", "apiVersion": "v1",
      "metadata": ["name": Value(name), "namespace": Value(namespace)],
      "involvedObject": involved, "reason": Value(reason), "message": Value(text),
      "type": Value(kind.rawValue), "source": source, "count": 1, "firstTimestamp": Value(now),
      "lastTimestamp": Value(now), "reportingComponent": Value(component),
      "reportingInstance": Value(host),
    ]
    do {
      try await client.create(.events, namespace: namespace, event)
      correlator.withLock { $0.note(told, name: name, count: 1) }
    } catch {
      log.debug("an event was lost", metadata: ["error": "\(error)"])
    }
  }
}

extension Timestamp {
  /// The wall clock.
  public static var now: Timestamp {
    let interval = Date().timeIntervalSince1970
    let seconds = interval.rounded(.down)
    return Timestamp(
      secondsSinceEpoch: Int64(seconds), nanoseconds: Int64((interval - seconds) * 1_000_000_000))
  }
}
