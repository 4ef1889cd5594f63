import EtcdClient
import EtcdProto
import Foundation
import HTTP2
import SwiftProtobuf

// Locks and elections, in the way of etcd's client library, so that all who use it take part in the same ones: a
// candidate makes a key of its own below the name, with a lease. Whose key was made first has the lock, or leads.
// The others wait, each for the one before it to go, so that one deletion wakes one waiter.

/// One key below a name, that lives as long as this process says so.
final class Candidacy: Sendable {
  private let client: MessageClient
  private let prefix: String
  private let lease: Int64
  private let keeper: Task<Void, Never>
  /// The candidate's own key.
  let key: String

  /// - Parameter seconds: after which the key goes, once nobody renews the lease any more.
  init(_ client: MessageClient, name: String, seconds: Int64) async throws {
    let granted: Etcdserverpb_LeaseGrantResponse = try await calling {
      try await client.call(
        "Lease/LeaseGrant", Etcdserverpb_LeaseGrantRequest.with { $0.ttl = seconds })
    }
    self.client = client
    prefix = name + "/"
    lease = granted.id
    key = prefix + GoText.hexadecimal(UInt64(bitPattern: granted.id))
    keeper = Task {
      let keeper = LeaseKeeper(client, granted.id)
      while let answer = try? await keeper.renew() {
        do { try await Task.sleep(for: .seconds(answer.ttl) / 3) } catch { return }
      }
    }
  }

  /// Returns when the lease is gone although it was renewed. Where this is cancelled, nobody renews it any more.
  func waitForExpiry() async {
    await withTaskCancellationHandler {
      await keeper.value
    } onCancel: {
      keeper.cancel()
    }
  }

  /// Enters the key and waits until it is the oldest.
  ///
  /// - Returns: the header of the answer that showed it.
  func campaign(_ value: String) async throws -> Etcdserverpb_ResponseHeader {
    var txn = Etcdserverpb_TxnRequest()
    txn.compare = [
      .with {
        $0.target = .create
        $0.result = .equal
        $0.key = Data(key.utf8)
        $0.createRevision = 0
      }
    ]
    txn.success = [
      .with {
        $0.requestPut.key = Data(key.utf8)
        $0.requestPut.value = Data(value.utf8)
        $0.requestPut.lease = lease
      }
    ]
    txn.failure = [.with { $0.requestRange.key = Data(key.utf8) }]
    let request = txn
    let answer: Etcdserverpb_TxnResponse = try await calling {
      try await client.call("KV/Txn", request)
    }
    let revision =
      answer.succeeded
      ? answer.header.revision
      : answer.responses.first?.responseRange.kvs.first?.createRevision ?? answer.header.revision
    return try await waitForOlder(than: revision)
  }

  private func waitForOlder(than revision: Int64) async throws -> Etcdserverpb_ResponseHeader {
    var request = Etcdserverpb_RangeRequest()
    request.key = Data(prefix.utf8)
    request.rangeEnd = Data(StoreRange.endOfPrefix(Array(prefix.utf8)))
    request.sortTarget = .create
    request.sortOrder = .descend
    request.limit = 1
    request.maxCreateRevision = revision - 1
    let query = request
    while true {
      let answer: Etcdserverpb_RangeResponse = try await calling {
        try await client.call("KV/Range", query, isSafe: true)
      }
      guard let older = answer.kvs.first else { return answer.header }
      try await Self.waitForDeletion(of: older.key, after: answer.header.revision, client)
    }
  }

  private static func waitForDeletion(
    of key: Data, after revision: Int64, _ client: MessageClient
  ) async throws {
    try await CandidacyWatch(client, key: key, end: Data(), from: revision + 1).each { event in
      event.type != .delete
    }
  }

  /// Gives up the key, and the lease with it.
  func resign() async throws {
    keeper.cancel()
    let _: Etcdserverpb_LeaseRevokeResponse = try await calling {
      try await client.call(
        "Lease/LeaseRevoke", Etcdserverpb_LeaseRevokeRequest.with { $0.id = lease })
    }
  }

  /// The candidate's own key as the store has it.
  func ownRecord() async throws -> Etcdserverpb_RangeResponse {
    try await calling {
      try await client.call(
        "KV/Range", Etcdserverpb_RangeRequest.with { $0.key = Data(key.utf8) }, isSafe: true)
    }
  }
}

/// A watch for waiting: events one by one, over broken connections.
struct CandidacyWatch {
  private let client: MessageClient
  private let key: Data
  private let end: Data
  private let revision: Int64

  init(_ client: MessageClient, key: Data, end: Data, from revision: Int64) {
    self.client = client
    self.key = key
    self.end = end
    self.revision = revision
  }

  /// Hands events on until `take` returns false.
  func each(_ take: (Mvccpb_Event) async throws -> Bool) async throws {
    var next = revision
    while true {
      do {
        let stream: MessageStream<Etcdserverpb_WatchRequest, Etcdserverpb_WatchResponse> =
          try await client.open("Watch/Watch", requiresLeader: true)
        try await stream.send(
          .with {
            $0.createRequest.key = key
            $0.createRequest.rangeEnd = end
            $0.createRequest.startRevision = next
          })
        while let answer = try await stream.next() {
          if answer.canceled {
            throw CtlFailure(
              .error,
              answer.compactRevision != 0
                ? "etcdserver: mvcc: required revision has been compacted" : answer.cancelReason)
          }
          for event in answer.events {
            next = event.kv.modRevision + 1
            if !(try await take(event)) { return }
          }
        }
      } catch let error as StoreError {
        if let status = error.status, status.code != .unavailable { throw CtlFailure(error) }
        if error.code == .cancelled { throw CancellationError() }
      }
      try await Task.sleep(for: .milliseconds(200))
    }
  }
}
