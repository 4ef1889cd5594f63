import CLinux

#if canImport(Glibc)
  import Glibc
#endif

/// One part of the cluster as a child process: this binary with a subcommand.
final class ManagedProcess {
  let name: String
  let arguments: [String]
  let logPath: String
  private(set) var pid: pid_t = 0
  /// How it ended, if it did: an exit code, or the signal that killed it.
  private(set) var end: End?

  enum End: Equatable, CustomStringConvertible {
    case code(Int32)
    case signal(Int32)
    var description: String {
      switch self {
      case .code(let code): "exit code \(code)"
      case .signal(let signal): "signal \(signal)"
      }
    }
  }

  /// Whether it gets a network namespace of its own.
  var hasOwnNetwork = false
  /// Whose network namespace it joins.
  var network: ManagedProcess?

  init(name: String, arguments: [String], logPath: String) {
    self.name = name
    self.arguments = arguments
    self.logPath = logPath
  }

  var isRunning: Bool { pid > 0 && end == nil }

  /// Starts the process, its output appended to its log.
  func start() throws {
    let log = open(logPath, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
    guard log >= 0 else { throw StartFailure("cannot write \(logPath): \(errorText(errno))") }
    defer { close(log) }
    let words = ["martlet"] + arguments
    var namespace: Int32 = -1
    defer { if namespace >= 0 { close(namespace) } }
    if let network {
      namespace = open("/proc/\(network.pid)/ns/net", O_RDONLY | O_CLOEXEC)
      guard namespace >= 0 else {
        throw StartFailure("cannot start \(name): the network of \(network.name) is gone")
      }
    }
    let (inNamespace, newNamespaces) = (namespace, hasOwnNetwork ? CLINUX_NEW_NETWORK : 0)
    var cArguments = words.map { strdup($0) } + [nil]
    defer { for word in cArguments { free(word) } }
    var started: pid_t = 0
    // A child stops with its parent even if that is killed: see `EntryPoint`.
    setenv(EntryPoint.supervisedVariable, "\(getpid())", 1)
    let code = cArguments.withUnsafeMutableBufferPointer { pointers in
      var request = clinux_spawn_request()
      request.path = UnsafePointer(ManagedProcess.executable)
      request.arguments = UnsafePointer(pointers.baseAddress!)
      request.environment = UnsafePointer(environ)
      request.input = -1
      request.output = log
      request.error = log
      request.mount_namespace = -1
      request.network_namespace = inNamespace
      request.new_namespaces = newNamespaces
      return clinux_spawn(&request, &started)
    }
    unsetenv(EntryPoint.supervisedVariable)
    guard code == 0 else { throw StartFailure("cannot start \(name): \(errorText(-code))") }
    pid = started
    end = nil
  }

  /// Notes the end of the process, if it has come.
  func poll() {
    guard isRunning else { return }
    var code: Int32 = 0
    var signal: Int32 = 0
    if clinux_reap(pid, &code, &signal) == pid {
      end = signal != 0 ? .signal(signal) : .code(code)
    }
  }

  func send(_ signal: Int32) {
    if isRunning { kill(pid, signal) }
  }

  /// The last lines of its log, to be shown when it fails.
  func logTail(lines: Int = 8) -> String {
    guard let file = fopen(logPath, "r") else { return "" }
    defer { fclose(file) }
    fseek(file, 0, SEEK_END)
    fseek(file, max(0, ftell(file) - 8192), SEEK_SET)
    var bytes = [UInt8](repeating: 0, count: 8192)
    let count = fread(&bytes, 1, bytes.count, file)
    return String(decoding: bytes[..<count], as: UTF8.self).split(separator: "\n")
      .suffix(lines).joined(separator: "\n")
  }

  /// The path of this very binary, for as long as the process lives.
  private nonisolated(unsafe) static let executable: UnsafeMutablePointer<CChar> = {
    var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
    let count = readlink("/proc/self/exe", &buffer, buffer.count - 1)
    return strdup(count > 0 ? Array(buffer[..<count] + [0]) : [0])
  }()
}

func errorText(_ code: Int32) -> String { String(cString: strerror(code)) }
