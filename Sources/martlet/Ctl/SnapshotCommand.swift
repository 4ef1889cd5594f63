import ArgumentParser
import Crypto
import EtcdClient
import EtcdProto
import Foundation
import SwiftProtobuf

#if canImport(Glibc)
  import Glibc
#endif

/// `martlet ctl snapshot`
struct SaveSnapshotCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "snapshot", abstract: "Take a snapshot of a member's store.",
    discussion: "To look at snapshots, and to found a cluster from one: 'martlet util'.",
    subcommands: [Save.self])

  struct Save: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Store a snapshot of an endpoint's state in a file.")
    @OptionGroup var options: CtlOptions
    @Argument(help: "The file.") var arguments: [String] = []

    func run() async throws {
      guard arguments.count == 1 else {
        throw CtlFailure.arguments("snapshot save expects one argument")
      }
      guard options.endpointNames.count == 1 else {
        throw CtlFailure.arguments(
          "snapshot must be requested to one selected node, not multiple "
            + "[\(options.endpointNames.joined(separator: " "))]")
      }
      let client = try await options.client()
      try await SnapshotDownload(path: arguments[0]).run(client)
      CtlOutput.line("Snapshot saved at \(arguments[0])")
    }
  }
}

/// Brings a snapshot into a file, which is there only when it is whole, and durable.
struct SnapshotDownload {
  let path: String
  private static let checksumBytes = 32

  func run(_ client: MessageClient) async throws {
    let part = path + ".part"
    let descriptor = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw failure("could not open \(part)") }
    defer {
      close(descriptor)
      unlink(part)
    }
    try await download(client, to: descriptor, part)
    guard fsync(descriptor) == 0 else { throw failure("could not sync \(part)") }
    guard rename(part, path) == 0 else { throw failure("could not rename \(part) to \(path)") }
    let directory = (path as NSString).deletingLastPathComponent
    let folder = open(directory.isEmpty ? "." : directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if folder >= 0 {
      fsync(folder)
      close(folder)
    }
  }

  /// Writes what comes, and checks the sum of it that the last 32 bytes are.
  private func download(_ client: MessageClient, to descriptor: CInt, _ part: String) async throws {
    let stream = try await calling {
      try await client.open(
        "Maintenance/Snapshot", sending: Etcdserverpb_SnapshotRequest.self,
        answers: Etcdserverpb_SnapshotResponse.self)
    }
    try await calling { try await stream.send(Etcdserverpb_SnapshotRequest()) }
    stream.finishSending()
    var digest = SHA256()
    // The last bytes so far: they may be the sum.
    var tail: [UInt8] = []
    var size = 0
    while let piece = try await calling({ try await stream.next() }) {
      let bytes = [UInt8](piece.blob)
      try write(bytes, to: descriptor, part)
      size += bytes.count
      tail += bytes
      if tail.count > Self.checksumBytes {
        let settled = tail.count - Self.checksumBytes
        digest.update(data: tail[..<settled])
        tail.removeFirst(settled)
      }
    }
    guard size % 512 == Self.checksumBytes, Array(digest.finalize()) == tail else {
      throw CtlFailure(
        .error,
        "sha256 checksum not found or wrong [bytes: \(size)]: the snapshot didn't arrive whole")
    }
  }

  private func write(_ bytes: [UInt8], to descriptor: CInt, _ part: String) throws {
    var done = 0
    while done < bytes.count {
      let count = bytes[done...].withUnsafeBytes {
        Glibc.write(descriptor, $0.baseAddress, $0.count)
      }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw failure("could not write \(part)") }
      done += count
    }
  }

  private func failure(_ what: String) -> CtlFailure {
    CtlFailure(.error, "\(what) (\(String(cString: strerror(errno))))")
  }
}
