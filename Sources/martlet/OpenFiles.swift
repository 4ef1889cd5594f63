#if canImport(Glibc)
  import Glibc
#endif

/// How many files, sockets among them, the process may have open.
enum OpenFiles {
  /// Raises the bound as far as it goes without privilege: a server's clients may be thousands, and the usual bound
  /// of 1,024 is there for programs that use `select`.
  static func raiseLimit() {
    var limit = rlimit()
    let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    guard getrlimit(resource, &limit) == 0, limit.rlim_cur < limit.rlim_max else { return }
    limit.rlim_cur = limit.rlim_max
    _ = setrlimit(resource, &limit)
  }
}
