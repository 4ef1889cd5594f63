/// ConfigMaps and Secrets: keys and values for pods, at most a mebibyte of them.
enum Configuration {
  /// The room for all values of one object, in bytes.
  static let size = 1024 * 1024

  static func validateKeys(_ map: Value, _ path: FieldPath) -> [FieldError] {
    map.members.flatMap { member in
      Names.configKeyProblems(member.key).map {
        FieldError.invalid(path.key(member.key), .string(member.key), $0)
      }
    }
  }

  /// An object marked immutable stays as it is, and stays marked.
  static func validateImmutable(
    _ object: Value, _ old: Value, keys: [String]
  ) -> [FieldError] {
    guard old["immutable"] == true else { return [] }
    var errors: [FieldError] = []
    let why = "field is immutable when `immutable` is set"
    if object["immutable"] != true {
      errors.append(.forbidden(FieldPath("immutable"), why))
    }
    for key in keys where object[key] != old[key] {
      errors.append(.forbidden(FieldPath(key), why))
    }
    return errors
  }
}

struct ConfigMapStrategy: ResourceStrategy {
  func validate(_ map: Value) -> [FieldError] {
    var errors: [FieldError] = []
    for member in map["data"].members where map["binaryData"].has(member.key) {
      errors.append(
        .invalid(
          FieldPath("data").key(member.key), .string(member.key),
          "duplicate of key present in binaryData"))
    }
    errors += Configuration.validateKeys(map["data"], FieldPath("data"))
    errors += Configuration.validateKeys(map["binaryData"], FieldPath("binaryData"))
    var size = map["data"].members.reduce(0) { $0 + ($1.value.string?.utf8.count ?? 0) }
    size += map["binaryData"].members.reduce(0) { $0 + ($1.value.string?.utf8.count ?? 0) / 4 * 3 }
    if size > Configuration.size {
      errors.append(.tooLong(.root, limit: Configuration.size))
    }
    return errors
  }

  func validateUpdate(_ map: Value, from old: Value) -> [FieldError] {
    Configuration.validateImmutable(map, old, keys: ["data", "binaryData"]) + validate(map)
  }
}

struct SecretStrategy: ResourceStrategy {
  /// The keys that a type of secret must have.
  private static let requiredKeys: [String: [String]] = [
    "kubernetes.io/dockercfg": [".dockercfg"],
    "kubernetes.io/dockerconfigjson": [".dockerconfigjson"],
    "kubernetes.io/ssh-auth": ["ssh-privatekey"],
    "kubernetes.io/tls": ["tls.crt", "tls.key"],
  ]

  /// `stringData` is only a way of writing: it becomes `data`.
  func applyDefaults(_ secret: inout Value) {
    guard let plain = secret.remove("stringData") else { return }
    for member in plain.members {
      secret["data"][member.key] = .string(Base64.encode((member.value.string ?? "").utf8))
    }
  }

  func validate(_ secret: Value) -> [FieldError] {
    var errors = Configuration.validateKeys(secret["data"], FieldPath("data"))
    let size = secret["data"].members.reduce(0) {
      $0 + (($1.value.string?.utf8.count ?? 0) / 4 * 3)
    }
    if size > Configuration.size {
      errors.append(.tooLong(FieldPath("data"), limit: Configuration.size))
    }
    let type = secret["type"].string ?? ""
    for key in SecretStrategy.requiredKeys[type] ?? [] where !secret["data"].has(key) {
      errors.append(.required(FieldPath("data").key(key)))
    }
    if type == "kubernetes.io/service-account-token",
      secret["metadata"]["annotations"]["kubernetes.io/service-account.name"].isEmpty
    {
      errors.append(
        .required(
          FieldPath("metadata").child("annotations").key("kubernetes.io/service-account.name")))
    }
    if type == "kubernetes.io/basic-auth", !secret["data"].has("username"),
      !secret["data"].has("password")
    {
      errors.append(.required(FieldPath("data").key("username")))
      errors.append(.required(FieldPath("data").key("password")))
    }
    return errors
  }

  func validateUpdate(_ secret: Value, from old: Value) -> [FieldError] {
    var errors: [FieldError] = []
    if secret["type"] != old["type"] {
      errors.append(.invalid(FieldPath("type"), secret["type"], "field is immutable"))
    }
    return errors + Configuration.validateImmutable(secret, old, keys: ["data"])
      + validate(secret)
  }
}
