import Foundation

/// Runs golden transcripts: text files that hold commands and what each of them printed.
///
/// A file is a sequence of blocks, parted by blank lines:
///
/// ```
/// # Lines that start with `#` between blocks are comments and stay as they are.
/// put key=a value=1
/// ----
/// revision 2
///
/// script
/// further lines, up to the dashes, are the command's input
/// ----
/// ----
/// Output that holds blank lines stands between doubled dashes,
///
/// which the runner writes by itself.
/// ----
/// ----
/// ```
///
/// A test gives the runner a closure from ``GoldenCommand`` to output. The runner compares; with
/// `REWRITE=1` in the environment it rewrites the expected parts instead, and the reviewer reads the
/// difference in version control. A typical test:
///
/// ```swift
/// @Test(arguments: GoldenRunner().files) func transcript(file: String) throws {
///   var world = World()
///   try GoldenRunner().run(file) { try world.perform($0) }
/// }
/// ```
public struct GoldenRunner: Sendable {
  /// The folder of transcripts, as a path.
  public let folder: String
  /// Whether mismatches rewrite the file instead of failing.
  public let rewrites: Bool

  /// - Parameters:
  ///   - folder: a folder beside the calling source file.
  ///   - mayRewrite: false for a run that compares with what another implementation recorded.
  ///   - sourceFile: the calling file; leave it to its default.
  public init(
    folder: String = "Golden", mayRewrite: Bool = true, sourceFile: String = #filePath
  ) {
    let directory = sourceFile.split(separator: "/", omittingEmptySubsequences: false).dropLast()
    self.folder = (directory + [Substring(folder)]).joined(separator: "/")
    self.rewrites = mayRewrite && ProcessInfo.processInfo.environment["REWRITE"] == "1"
  }

  /// The names of the folder's `.txt` files, sorted; empty if the folder doesn't exist.
  public var files: [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    return names.filter { $0.hasSuffix(".txt") }.sorted()
  }

  /// The commands of one file, for a test that runs them without the recorded outputs.
  public func commands(of file: String) throws -> [GoldenCommand] {
    let path = folder + "/" + file
    return try GoldenFile.parse(String(contentsOfFile: path, encoding: .utf8), path: path)
      .compactMap { if case .block(let command, _) = $0 { command } else { nil } }
  }

  /// Runs all commands of one file in order and compares their outputs.
  ///
  /// - Throws: ``GoldenError`` that lists every block that differs, or what `perform` threw, with
  ///   the place in the file.
  public func run(_ file: String, _ perform: (GoldenCommand) throws -> String) throws {
    let path = folder + "/" + file
    let text = try String(contentsOfFile: path, encoding: .utf8)
    let parts = try GoldenFile.parse(text, path: path)
    var rewritten: [GoldenFile.Part] = []
    var differences: [String] = []
    for part in parts {
      guard case .block(let command, let expected) = part else {
        rewritten.append(part)
        continue
      }
      let actual: String
      do {
        actual = GoldenFile.trimmed(try perform(command))
      } catch {
        throw GoldenError(message: "\(path):\(command.line): \(command.text)\nthrew: \(error)")
      }
      if actual != expected {
        differences.append(
          "\(path):\(command.line): \(command.text)\n"
            + GoldenFile.difference(expected: expected, actual: actual))
      }
      rewritten.append(.block(command, output: actual))
    }
    guard !differences.isEmpty else { return }
    guard rewrites else {
      throw GoldenError(
        message: differences.joined(separator: "\n\n")
          + "\n\n(REWRITE=1 accepts the new output)")
    }
    try GoldenFile.render(rewritten).write(toFile: path, atomically: true, encoding: .utf8)
  }
}

/// One command of a golden transcript.
///
/// The first line is split at spaces: a word, then arguments, each a bare word or `key=value`. A value
/// with spaces stands in double quotes.
public struct GoldenCommand: Sendable {
  /// The first word.
  public let name: String
  /// The words after it, in order, quotes removed; `key=value` stays one word.
  public let arguments: [String]
  /// The lines between the first one and the dashes.
  public let input: String
  /// The whole command as it stands in the file.
  public let text: String
  /// Its line in the file, from 1.
  public let line: Int

  public init(text: String, line: Int = 1) {
    self.text = text
    self.line = line
    let lines = text.split(separator: "\n", maxSplits: 1, omittingEmptySubsequences: false)
    var words: [String] = []
    var word = ""
    var isInWord = false
    var isQuoted = false
    for character in lines.first ?? "" {
      switch character {
      case "\"":
        isQuoted.toggle()
        isInWord = true
      case " " where !isQuoted:
        if isInWord { words.append(word) }
        word = ""
        isInWord = false
      default:
        word.append(character)
        isInWord = true
      }
    }
    if isInWord { words.append(word) }
    self.name = words.first ?? ""
    self.arguments = Array(words.dropFirst())
    self.input = lines.count > 1 ? String(lines[1]) : ""
  }

  /// The value of `key=value`, or nil if the command has none.
  public func value(_ key: String) -> String? {
    let prefix = key + "="
    guard let word = arguments.first(where: { $0.hasPrefix(prefix) }) else { return nil }
    return String(word.dropFirst(prefix.count))
  }

  /// The value of `key=value` as an integer, or nil if there is none or it is not an integer.
  public func integer(_ key: String) -> Int? { value(key).flatMap { Int($0) } }

  /// Whether the bare word stands among the arguments.
  public func has(_ word: String) -> Bool { arguments.contains(word) }

  /// The arguments that are not of the form `key=value`.
  public var bareArguments: [String] { arguments.filter { !$0.contains("=") } }
}

/// A transcript that differs or can't be read.
public struct GoldenError: Error, CustomStringConvertible {
  public let message: String
  public init(message: String) { self.message = message }
  public var description: String { message }
}

/// The text form of transcripts.
enum GoldenFile {
  enum Part {
    /// Comments and blank lines, kept as they are.
    case verbatim(String)
    case block(GoldenCommand, output: String)
  }

  static func parse(_ text: String, path: String) throws -> [Part] {
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    if lines.last == "" { lines.removeLast() }
    var parts: [Part] = []
    var next = 0
    while next < lines.count {
      if lines[next].isEmpty || lines[next].hasPrefix("#") {
        parts.append(.verbatim(lines[next]))
        next += 1
        continue
      }
      let start = next
      while next < lines.count, lines[next] != "----" { next += 1 }
      guard next < lines.count else {
        throw GoldenError(message: "\(path):\(start + 1): a command without `----`")
      }
      let command = GoldenCommand(
        text: lines[start..<next].joined(separator: "\n"), line: start + 1)
      next += 1
      let outputStart: Int
      let outputEnd: Int
      if next < lines.count, lines[next] == "----" {
        next += 1
        outputStart = next
        while next + 1 < lines.count, !(lines[next] == "----" && lines[next + 1] == "----") {
          next += 1
        }
        guard next + 1 < lines.count else {
          throw GoldenError(message: "\(path):\(start + 1): doubled dashes that never close")
        }
        outputEnd = next
        next += 2
      } else {
        outputStart = next
        while next < lines.count, !lines[next].isEmpty { next += 1 }
        outputEnd = next
      }
      parts.append(.block(command, output: lines[outputStart..<outputEnd].joined(separator: "\n")))
    }
    return parts
  }

  static func render(_ parts: [Part]) -> String {
    var text = ""
    for part in parts {
      switch part {
      case .verbatim(let line):
        text += line + "\n"
      case .block(let command, let output):
        let body = output.isEmpty ? "" : output + "\n"
        let lines = output.split(separator: "\n", omittingEmptySubsequences: false)
        let needsDoubled = !output.isEmpty && lines.contains("")
        let dashes = needsDoubled ? "----\n----\n" : "----\n"
        text += command.text + "\n" + dashes + body + (needsDoubled ? dashes : "")
      }
    }
    return text
  }

  /// Output without the blank lines at its end and the spaces at the ends of its lines, which no
  /// reader of a transcript can see.
  static func trimmed(_ output: String) -> String {
    var lines = output.split(separator: "\n", omittingEmptySubsequences: false).map { line in
      var line = line
      while line.last == " " { line.removeLast() }
      return line
    }
    while let last = lines.last, last.isEmpty { lines.removeLast() }
    return lines.joined(separator: "\n")
  }

  /// A line difference: common lines indented, expected ones with `-`, actual ones with `+`.
  static func difference(expected: String, actual: String) -> String {
    let old = expected.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    let new = actual.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    var removed: Set<Int> = []
    var inserted: Set<Int> = []
    for change in new.difference(from: old) {
      switch change {
      case .remove(let offset, _, _): removed.insert(offset)
      case .insert(let offset, _, _): inserted.insert(offset)
      }
    }
    var lines: [String] = []
    var left = 0
    var right = 0
    while left < old.count || right < new.count {
      if left < old.count, removed.contains(left) {
        lines.append("- " + old[left])
        left += 1
      } else if right < new.count, inserted.contains(right) {
        lines.append("+ " + new[right])
        right += 1
      } else {
        lines.append("  " + new[right])
        left += 1
        right += 1
      }
    }
    return lines.joined(separator: "\n")
  }
}
