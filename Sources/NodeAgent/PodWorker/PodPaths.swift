/// Where the files of the node's pods lie, below its data directory.
///
/// ```
/// pods/UID/volumes/NAME/            the content of a volume
///          etc-hosts …              (the sandbox's own files lie with the runtime)
/// logs/NAMESPACE_NAME_UID/CONTAINER/ATTEMPT.log
/// images/                           ImageStore
/// runtime/                          CrunRuntime
/// ```
struct PodPaths: Sendable {
  let root: String

  var pods: String { root + "/pods" }
  var logs: String { root + "/logs" }

  func pod(_ uid: String) -> String { "\(pods)/\(uid)" }
  func volumes(_ uid: String) -> String { "\(pod(uid))/volumes" }
  func volume(_ uid: String, _ name: String) -> String { "\(volumes(uid))/\(name)" }

  func logs(_ pod: PodManifest) -> String {
    "\(logs)/\(pod.namespace)_\(pod.name)_\(pod.uid)"
  }

  func log(_ pod: PodManifest, _ container: String, attempt: Int) -> String {
    "\(logs(pod))/\(container)/\(attempt).log"
  }

  /// Removes all that is kept for a pod of which only the uid may be known.
  func remove(uid: String) throws(SystemError) {
    try Disk.removeTree(pod(uid))
    for name in Disk.names(in: logs) where name.hasSuffix("_\(uid)") {
      try Disk.removeTree("\(logs)/\(name)")
    }
  }

  /// The uids of pods that have files here.
  func knownUIDs() -> Set<String> {
    let logged = Disk.names(in: logs).compactMap { $0.split(separator: "_").last.map(String.init) }
    return Set(Disk.names(in: pods) + logged)
  }
}
