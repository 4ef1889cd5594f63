import CLinux
import Glibc

/// Starting other programs.
struct Program {
  var path: String
  var arguments: [String]
  var environment: [String] = []
  var directory: String?
  /// The child's standard streams; -1 is /dev/null.
  var input: Int32 = -1
  var output: Int32 = -1
  var error: Int32 = -1
  /// `CLINUX_NEW_…` flags of namespaces to start it in.
  var namespaces: Int32 = 0
  /// A descriptor of the mount namespace to start it in; -1 is the caller's.
  var mountNamespace: Int32 = -1
  var isDetached = false

  init(_ path: String, _ arguments: [String]) {
    self.path = path
    self.arguments = arguments
  }

  /// Starts it and returns its process id. An attached child must be reaped by the caller.
  func start() throws(SystemError) -> pid_t {
    var pid: pid_t = 0
    let outcome = Self.withStrings([path] + arguments) { arguments in
      Self.withStrings(environment) { environment in
        path.withCString { path in
          Self.withOptional(directory) { directory in
            var request = clinux_spawn_request(
              path: path, arguments: arguments, environment: environment, directory: directory,
              input: input, output: output, error: error, new_namespaces: namespaces,
              mount_namespace: mountNamespace, network_namespace: -1, is_detached: isDetached ? 1 : 0)
            return clinux_spawn(&request, &pid)
          }
        }
      }
    }
    try SystemError.check(outcome, "start", path)
    return pid
  }

  /// Searches the directories of `PATH`, and the system's where users' paths often lack them.
  static func find(_ name: String) -> String? {
    let path = getenv("PATH").map { String(cString: $0) } ?? ""
    let directories =
      path.split(separator: ":").map(String.init) + [
        "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
      ]
    return directories.lazy.map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
  }

  /// The path of the running executable.
  static var ownPath: String? {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &buffer, buffer.count)
    guard count > 0 else { return nil }
    return String(decoding: buffer[..<count], as: UTF8.self)
  }

  private static func withStrings(
    _ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Int32
  ) -> Int32 {
    var pointers: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) }
    defer { for pointer in pointers { free(pointer) } }
    pointers.append(nil)
    return pointers.withUnsafeBufferPointer { body($0.baseAddress!) }
  }

  private static func withOptional(
    _ string: String?, _ body: (UnsafePointer<CChar>?) -> Int32
  ) -> Int32 {
    guard let string else { return body(nil) }
    return string.withCString { body($0) }
  }
}
