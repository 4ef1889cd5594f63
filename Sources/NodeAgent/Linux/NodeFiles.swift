import Glibc

/// The few things about files that a command line needs to hand its arguments on.
public enum NodeFiles {
  /// A path that doesn't depend on the working directory.
  public static func absolute(_ path: String) -> String {
    if path.hasPrefix("/") { return path }
    guard let pointer = getcwd(nil, 0) else { return path }
    defer { free(pointer) }
    var rest = Substring(path)
    while rest.hasPrefix("./") { rest = rest.dropFirst(2) }
    let directory = String(cString: pointer)
    return rest.isEmpty || rest == "." ? directory : "\(directory)/\(rest)"
  }

  /// The content of a text file; nil if it can't be read.
  public static func text(_ path: String) -> String? {
    (try? Disk.read(path)).map { String(decoding: $0, as: UTF8.self) }
  }

  /// The path of the running program; where its file was replaced since, the way by which it can still
  /// be started.
  public static var ownExecutable: String {
    guard let path = Program.ownPath, Disk.exists(path) else { return "/proc/self/exe" }
    return path
  }
}
