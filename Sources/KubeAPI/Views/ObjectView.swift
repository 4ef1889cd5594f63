/// What every object has.
public protocol ObjectView: Sendable {
  var object: Value { get }
  init(_ object: Value)
}

extension ObjectView {
  public var name: String { object["metadata"]["name"].string ?? "" }
  public var namespace: String { object["metadata"]["namespace"].string ?? "" }
  public var uid: String { object["metadata"]["uid"].string ?? "" }
  public var resourceVersion: String { object["metadata"]["resourceVersion"].string ?? "" }
  public var generation: Int64 { object["metadata"]["generation"].integer ?? 0 }
  public var labels: Value { object["metadata"]["labels"] }
  public var annotations: Value { object["metadata"]["annotations"] }
  public var finalizers: [String] { object["metadata"]["finalizers"].strings }
  public var creationTime: Timestamp? { object["metadata"]["creationTimestamp"].timestamp }
  public var deletionTime: Timestamp? { object["metadata"]["deletionTimestamp"].timestamp }
  public var isBeingDeleted: Bool { !object["metadata"]["deletionTimestamp"].isNull }
  public var ownerReferences: [OwnerReference] {
    object["metadata"]["ownerReferences"].elements.map { OwnerReference($0) }
  }
  /// The owner that manages this object, of which there is at most one.
  public var controller: OwnerReference? { ownerReferences.first { $0.isController } }
  public var conditions: [Value] { object["status"]["conditions"].elements }

  /// The condition of a type, if there is one.
  public func condition(_ type: String) -> Value? {
    conditions.first { $0["type"].string == type }
  }

  /// `namespace/name`, or the name alone for objects without namespace.
  public var key: String { namespace.isEmpty ? name : "\(namespace)/\(name)" }
}

/// Any object.
public struct AnyObjectView: ObjectView {
  public let object: Value
  public init(_ object: Value) { self.object = object }
}

public struct OwnerReference: Sendable, Equatable {
  public let apiVersion: String
  public let kind: String
  public let name: String
  public let uid: String
  public let isController: Bool
  public let blocksDeletion: Bool

  public init(
    apiVersion: String, kind: String, name: String, uid: String, isController: Bool = true,
    blocksDeletion: Bool = true
  ) {
    self.apiVersion = apiVersion
    self.kind = kind
    self.name = name
    self.uid = uid
    self.isController = isController
    self.blocksDeletion = blocksDeletion
  }

  public init(_ value: Value) {
    self.init(
      apiVersion: value["apiVersion"].string ?? "", kind: value["kind"].string ?? "",
      name: value["name"].string ?? "", uid: value["uid"].string ?? "",
      isController: value["controller"] == true,
      blocksDeletion: value["blockOwnerDeletion"] == true)
  }

  /// A reference that makes `owner` the controller of something.
  public init(controller owner: Value) {
    let view = AnyObjectView(owner)
    self.init(
      apiVersion: owner["apiVersion"].string ?? "", kind: owner["kind"].string ?? "",
      name: view.name, uid: view.uid)
  }

  public var value: Value {
    var value: Value = [
      "apiVersion": Value(apiVersion), "kind": Value(kind), "name": Value(name), "uid": Value(uid),
    ]
    if isController { value["controller"] = true }
    if blocksDeletion { value["blockOwnerDeletion"] = true }
    return value
  }
}

extension Value {
  /// Sets a condition in `status.conditions`. Its transition time changes only if its status does.
  ///
  /// - Returns: whether anything but the probe and heartbeat times changed.
  @discardableResult
  public mutating func setCondition(
    _ type: String, status: String, reason: String, message: String, now: Timestamp,
    extra: Value = nil
  ) -> Bool {
    var condition: Value = ["type": Value(type), "status": Value(status)]
    for member in extra.members { condition[member.key] = member.value }
    condition["lastTransitionTime"] = Value(now)
    condition["reason"] = reason.isEmpty ? .null : Value(reason)
    condition["message"] = message.isEmpty ? .null : Value(message)
    let conditions = self["status"]["conditions"].elements
    guard let index = conditions.firstIndex(where: { $0["type"].string == type }) else {
      self["status"]["conditions"].append(condition)
      return true
    }
    let old = conditions[index]
    if old["status"] == condition["status"] {
      condition["lastTransitionTime"] = old["lastTransitionTime"]
    }
    self["status"]["conditions"][index] = condition
    return old["status"] != condition["status"] || old["reason"] != condition["reason"]
      || old["message"] != condition["message"]
  }
}
