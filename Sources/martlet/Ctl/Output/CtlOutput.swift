#if canImport(Glibc)
  import Glibc
#endif

/// Standard output and standard error, in bytes: keys and values are any.
enum CtlOutput {
  static func write(_ bytes: [UInt8], to descriptor: CInt = STDOUT_FILENO) {
    var done = 0
    while done < bytes.count {
      let count = bytes[done...].withUnsafeBytes {
        Glibc.write(descriptor, $0.baseAddress, $0.count)
      }
      if count < 0 && errno == EINTR { continue }
      // Nobody reads any more: as with SIGPIPE, there is nothing left to do.
      guard count > 0 else { exit(1) }
      done += count
    }
  }

  static func line(_ text: String) { write(Array((text + "\n").utf8)) }
  static func complain(_ text: String) { write(Array((text + "\n").utf8), to: STDERR_FILENO) }

  /// What befell the client, in the form of its log.
  static func log(_ message: String) {
    complain(
      #"{"level":"warn","msg":"the store gave no answer","error":\#(GoJSON.string(message))}"#)
  }
}
