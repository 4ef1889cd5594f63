/// The rules for names, labels and annotations, with the texts that say what is wrong.
public enum Names {
  /// The greatest length of a DNS label (RFC 1123).
  public static let labelLength = 63
  /// The greatest length of a DNS subdomain.
  public static let subdomainLength = 253
  /// The room for all annotations of an object, keys and values together, in bytes.
  public static let annotationsSize = 256 * 1024

  // MARK: Character classes

  private static func isLower(_ byte: UInt8) -> Bool {
    (0x61...0x7a).contains(byte) || isDigit(byte)
  }
  private static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }
  private static func isAlphanumeric(_ byte: UInt8) -> Bool {
    isLower(byte) || (0x41...0x5a).contains(byte)
  }

  static func isLabel(_ text: Substring.UTF8View) -> Bool {
    guard let first = text.first, let last = text.last, isLower(first), isLower(last) else {
      return false
    }
    return text.allSatisfy { isLower($0) || $0 == UInt8(ascii: "-") }
  }

  private static func isSubdomain(_ text: String) -> Bool {
    text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
      .allSatisfy { isLabel($0) }
  }

  private static func isQualifiedPart(_ text: Substring.UTF8View) -> Bool {
    guard let first = text.first, let last = text.last, isAlphanumeric(first), isAlphanumeric(last)
    else { return false }
    return text.allSatisfy {
      isAlphanumeric($0) || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_")
        || $0 == UInt8(ascii: ".")
    }
  }

  // MARK: Rules

  private static func regexProblem(_ message: String, _ pattern: String, _ examples: [String])
    -> String
  {
    guard !examples.isEmpty else { return "\(message) (regex used for validation is '\(pattern)')" }
    let list = examples.map { "'\($0)'" }.joined(separator: ",  or ")
    return "\(message) (e.g. \(list), regex used for validation is '\(pattern)')"
  }

  private static func lengthProblem(_ limit: Int) -> String {
    "must be no more than \(limit) characters"
  }

  /// A prefix of a generated name may end in a dash.
  private static func maskTrailingDash(_ name: String) -> String {
    name.utf8.count > 1 && name.hasSuffix("-") ? name.dropLast() + "a" : name
  }

  /// RFC 1123 subdomain: the rule for most objects' names.
  public static func subdomainProblems(_ name: String, isPrefix: Bool = false) -> [String] {
    let name = isPrefix ? maskTrailingDash(name) : name
    var problems: [String] = []
    if name.utf8.count > subdomainLength { problems.append(lengthProblem(subdomainLength)) }
    if !isSubdomain(name) {
      problems.append(
        regexProblem(
          "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' "
            + "or '.', and must start and end with an alphanumeric character",
          #"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"#, ["example.com"]))
    }
    return problems
  }

  /// RFC 1123 label: the rule for namespaces, containers and volumes.
  public static func labelProblems(_ name: String, isPrefix: Bool = false) -> [String] {
    let name = isPrefix ? maskTrailingDash(name) : name
    var problems: [String] = []
    if name.utf8.count > labelLength { problems.append(lengthProblem(labelLength)) }
    if !isLabel(Substring(name).utf8) {
      problems.append(
        regexProblem(
          "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
            + "and must start and end with an alphanumeric character",
          "[a-z0-9]([-a-z0-9]*[a-z0-9])?", ["my-name", "123-abc"]))
    }
    return problems
  }

  /// RFC 1035 label: the rule for Services.
  public static func serviceNameProblems(_ name: String, isPrefix: Bool = false) -> [String] {
    let name = isPrefix ? maskTrailingDash(name) : name
    var problems: [String] = []
    if name.utf8.count > labelLength { problems.append(lengthProblem(labelLength)) }
    let startsWithLetter = name.utf8.first.map { !isDigit($0) } ?? false
    if !startsWithLetter || !isLabel(Substring(name).utf8) {
      problems.append(
        regexProblem(
          "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with "
            + "an alphabetic character, and end with an alphanumeric character",
          "[a-z]([-a-z0-9]*[a-z0-9])?", ["my-name", "abc-123"]))
    }
    return problems
  }

  /// `[prefix/]name`, as keys of labels and annotations and names of resources are.
  public static func qualifiedNameProblems(_ name: String) -> [String] {
    let pattern = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
    let parts = name.split(separator: "/", omittingEmptySubsequences: false)
    let rule =
      "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
      + "alphanumeric character"
    var problems: [String] = []
    let last: Substring
    switch parts.count {
    case 1: last = parts[0]
    case 2:
      last = parts[1]
      if parts[0].isEmpty {
        problems.append("prefix part must be non-empty")
      } else {
        problems += subdomainProblems(String(parts[0])).map { "prefix part \($0)" }
      }
    default:
      return [
        "a qualified name "
          + regexProblem(rule, pattern, ["MyName", "my.name", "123-abc"])
          + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
      ]
    }
    if last.isEmpty {
      problems.append("name part must be non-empty")
    } else if last.utf8.count > labelLength {
      problems.append("name part " + lengthProblem(labelLength))
    }
    if !isQualifiedPart(last.utf8) {
      problems.append("name part " + regexProblem(rule, pattern, ["MyName", "my.name", "123-abc"]))
    }
    return problems
  }

  /// What a label's value may be: empty, or up to 63 characters.
  public static func labelValueProblems(_ value: String) -> [String] {
    var problems: [String] = []
    if value.utf8.count > labelLength { problems.append(lengthProblem(labelLength)) }
    if !value.isEmpty && !isQualifiedPart(Substring(value).utf8) {
      problems.append(
        regexProblem(
          "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
            + "'.', and must start and end with an alphanumeric character",
          "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?", ["MyValue", "my_value", "12345"]))
    }
    return problems
  }

  /// The keys of a ConfigMap or Secret, which become file names.
  public static func configKeyProblems(_ key: String) -> [String] {
    var problems: [String] = []
    if key.utf8.count > subdomainLength { problems.append(lengthProblem(subdomainLength)) }
    let isPlain = key.utf8.allSatisfy {
      isAlphanumeric($0) || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_")
        || $0 == UInt8(ascii: ".")
    }
    if key.isEmpty || !isPlain {
      problems.append(
        regexProblem(
          "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
          "[-._a-zA-Z0-9]+", ["key.name", "KEY_NAME", "key-name"]))
    }
    if key == "." { problems.append("must not be '.'") }
    if key == ".." {
      problems.append("must not be '..'")
    } else if key.hasPrefix("..") {
      problems.append("must not start with '..'")
    }
    return problems
  }

  /// A relaxed environment variable name: printable ASCII without `=`.
  public static func environmentNameProblems(_ name: String) -> [String] {
    if name.isEmpty { return ["environment variable name must be non-empty"] }
    let isPrintable = name.utf8.allSatisfy {
      (0x20...0x7e).contains($0) && $0 != UInt8(ascii: "=")
    }
    return isPrintable
      ? []
      : [
        regexProblem(
          "a valid environment variable name must consist only of printable ASCII characters other "
            + "than '='", #"^[ -<>-~]+$"#, [])
      ]
  }

  /// The name of a port (RFC 6335 service name).
  public static func portNameProblems(_ name: String) -> [String] {
    var problems: [String] = []
    if name.utf8.count > 15 { problems.append("must be no more than 15 characters") }
    if !name.utf8.allSatisfy({ isLower($0) || $0 == UInt8(ascii: "-") }) || name.isEmpty {
      problems.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    }
    if !name.utf8.contains(where: { (0x61...0x7a).contains($0) }) {
      problems.append("must contain at least one letter (a-z)")
    }
    if name.contains("--") { problems.append("must not contain consecutive hyphens") }
    if name.hasPrefix("-") || name.hasSuffix("-") {
      problems.append("must not begin or end with a hyphen")
    }
    return problems
  }
}
