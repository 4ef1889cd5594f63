@preconcurrency import Dispatch
import Glibc

/// Tells of changes in a directory, or of one file: by inotify(7), so that nothing is polled.
final class FileWatcher: Sendable {
  private let source: any DispatchSourceRead

  /// - Returns: nil where the path can't be watched; it may come into being later.
  init?(_ path: String, changed: @escaping @Sendable () -> Void) {
    let descriptor = inotify_init1(Int32(IN_NONBLOCK | IN_CLOEXEC))
    guard descriptor >= 0 else { return nil }
    let events = UInt32(
      IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF
        | IN_MOVE_SELF)
    guard inotify_add_watch(descriptor, path, events) >= 0 else {
      close(descriptor)
      return nil
    }
    source = DispatchSource.makeReadSource(fileDescriptor: descriptor, queue: .global())
    source.setEventHandler {
      // What changed doesn't matter: everything is read again.
      var buffer = [UInt8](repeating: 0, count: 4_096)
      while read(descriptor, &buffer, buffer.count) > 0 {}
      changed()
    }
    source.setCancelHandler { close(descriptor) }
    source.resume()
  }

  func stop() { source.cancel() }
}
