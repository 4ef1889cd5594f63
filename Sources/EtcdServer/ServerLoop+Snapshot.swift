import Crypto
import EtcdProto
import Foundation
import HTTP2
import NIOCore
import NIOPosix
import Primitives
import Replica
import SwiftProtobuf

// Maintenance.Snapshot: the state as a file of our own form, with a SHA-256 behind it, as etcd's has one.
// The file is written on the snapshot thread and read by a thread of NIO's pool, a piece at a time, at the
// client's pace.

/// A snapshot on its way to a client.
final class SnapshotTransfer {
  let connection: GRPCServerConnection
  let stream: StreamID
  let export: SnapshotExport
  var offset: UInt64 = 0
  /// What comes behind the file, the checksum apart.
  let tail: [UInt8]
  var checksum = SHA256()

  init(_ connection: GRPCServerConnection, _ stream: StreamID, _ export: SnapshotExport) {
    self.connection = connection
    self.stream = stream
    self.export = export
    tail = SnapshotBlob.tail(behind: export.bytes)
  }

  /// Bytes of the whole blob after what was sent.
  var remaining: UInt64 {
    export.bytes - offset + UInt64(tail.count + SnapshotBlob.checksumBytes)
  }
}

extension ServerLoop {
  func snapshot(_ connection: GRPCServerConnection, _ stream: StreamID) {
    front.exportSnapshot(token: reserve(.snapshot, connection, stream, .snapshot), sink: sink)
  }

  /// The file is there.
  func exported(_ token: UInt64, _ export: SnapshotExport) {
    guard let call = take(token), let connection = call.connection else { return }
    continueTransfer(SnapshotTransfer(connection, call.stream, export))
  }

  private func continueTransfer(_ transfer: SnapshotTransfer) {
    guard transfer.connection.isOpen(transfer.stream) else { return }
    let bound = NIOLoopBound((self, transfer), eventLoop: eventLoop)
    guard
      transfer.connection.queuedBytes(on: transfer.stream) < EtcdServerLimits.snapshotQueueBytes
    else {
      eventLoop.scheduleTask(in: .milliseconds(5)) {
        bound.value.0.continueTransfer(bound.value.1)
      }
      return
    }
    if transfer.offset == transfer.export.bytes { return finish(transfer) }
    let (export, offset) = (transfer.export, transfer.offset)
    NIOThreadPool.singleton.runIfActive(eventLoop: eventLoop) {
      try export.read(at: offset, count: EtcdServerLimits.snapshotPieceBytes)
    }.whenComplete { result in
      let (loop, transfer) = bound.value
      switch result {
      case .success(let bytes) where !bytes.isEmpty:
        transfer.offset += UInt64(bytes.count)
        loop.send(bytes, of: transfer)
        loop.continueTransfer(transfer)
      case .success: loop.transferFailed(transfer, "the file became shorter")
      case .failure(let error): loop.transferFailed(transfer, "\(error)")
      }
    }
  }

  private func send(_ bytes: [UInt8], of transfer: SnapshotTransfer) {
    transfer.checksum.update(data: bytes)
    send(bytes, remaining: transfer.remaining, transfer)
  }

  private func send(_ bytes: [UInt8], remaining: UInt64, _ transfer: SnapshotTransfer) {
    var response = Etcdserverpb_SnapshotResponse()
    response.header = currentHeader()
    response.remainingBytes = remaining
    response.blob = Data(bytes)
    response.version = "3.5.0"
    guard let encoded: [UInt8] = try? response.serializedBytes() else { return }
    encoded.withUnsafeBytes { _ = transfer.connection.send(transfer.stream, $0) }
    metrics.sentBytes &+= UInt64(encoded.count)
    noteUnflushed(transfer.connection)
  }

  private func finish(_ transfer: SnapshotTransfer) {
    transfer.checksum.update(data: transfer.tail)
    send(transfer.tail, remaining: UInt64(SnapshotBlob.checksumBytes), transfer)
    send(Array(transfer.checksum.finalize()), remaining: 0, transfer)
    transfer.connection.finish(transfer.stream, .ok)
    metrics.count(.snapshot, .ok)
    noteUnflushed(transfer.connection)
  }

  private func transferFailed(_ transfer: SnapshotTransfer, _ reason: String) {
    fail(
      transfer.connection, transfer.stream, .snapshot,
      GRPCStatus(.internal, "the snapshot could not be read: \(reason)"))
  }
}
