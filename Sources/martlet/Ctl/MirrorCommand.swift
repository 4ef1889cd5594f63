import ArgumentParser
import EtcdClient
import EtcdProto
import Foundation
import HTTP2
import SwiftProtobuf
import Synchronization

/// `martlet ctl make-mirror`: also the way back from Martlet to etcd.
struct MirrorCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "make-mirror", abstract: "Make and keep a copy of the keys in another cluster.",
    discussion: """
      Copies all keys below --prefix as they are now, then every change, until it is stopped. Every 30 seconds it
      prints how many keys it has copied. Revisions, leases, users and roles are not copied.
      """)

  @OptionGroup var options: CtlOptions
  @Argument(help: "The endpoint of the other cluster.") var arguments: [String] = []
  @Option(help: "Key-value prefix to mirror.") var prefix = ""
  @Option(help: "The prefix that stands in its place over there (default: the same).")
  var destPrefix = ""
  @Flag(help: "Nothing stands in the prefix's place over there.") var noDestPrefix = false
  @Option(help: "The revision to start from: only changes from there on are copied.")
  var rev: Int64 = 0
  @Option(help: "Most operations in one transaction over there.") var maxTxnOps = 128
  @Option(help: "The certificate that is shown over there.") var destCert: String?
  @Option(help: "Its key.") var destKey: String?
  @Option(help: "Authorities that the other cluster's certificates are verified by.")
  var destCacert: String?
  @Flag(inversion: .prefixedNo, help: "Plain connections over there.") var destInsecureTransport =
    true
  @Option(help: "NAME[:PASSWORD] over there.") var destUser: String?
  @Option(help: "The password over there.") var destPassword: String?

  func run() async throws {
    guard arguments.count == 1 else {
      throw CtlFailure.arguments("make-mirror takes one destination argument")
    }
    guard !noDestPrefix || destPrefix.isEmpty else {
      throw CtlFailure.arguments(
        "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one")
    }
    guard maxTxnOps > 0 else { throw CtlFailure.arguments("--max-txn-ops must be above 0") }
    let security = CtlSecurity(
      certificate: destCert, key: destKey, authorities: destCacert, isPlain: destInsecureTransport)
    var settings = try security.settings([arguments[0]])
    settings.connectTimeout = try options.settings().connectTimeout
    settings.user = try CtlSecurity.user(destUser, destPassword, "Destination Password: ")
    let mirror = Mirror(
      source: try await options.client(), destination: MessageClient(settings), prefix: prefix,
      replacement: noDestPrefix ? "" : destPrefix.isEmpty ? prefix : destPrefix,
      operationsPerTransaction: maxTxnOps)
    let rev = rev
    let _: Bool? = try await untilSignal {
      let counting = Task {
        while true {
          try await Task.sleep(for: .seconds(30))
          CtlOutput.line("\(mirror.count)")
        }
      }
      defer { counting.cancel() }
      try await mirror.follow(from: rev > 0 ? rev : mirror.copyAll() + 1)
      return true
    }
  }
}

/// Copies keys from one store to another.
private final class Mirror: Sendable {
  private let source: MessageClient
  private let destination: MessageClient
  private let prefix: [UInt8]
  private let replacement: [UInt8]
  private let operationsPerTransaction: Int
  private let total = Atomic<Int>(0)

  /// Keys of one page of the base.
  private static let pageKeys: Int64 = 1_000
  /// Bytes of operations after which a transaction is sent, well below what servers take (1.5 MiB).
  private static let transactionBytes = 512 << 10
  /// A write over there may have to wait for an election.
  private static let writeTimeout = Duration.seconds(30)

  var count: Int { total.load(ordering: .relaxed) }

  init(
    source: MessageClient, destination: MessageClient, prefix: String, replacement: String,
    operationsPerTransaction: Int
  ) {
    self.source = source
    self.destination = destination
    self.prefix = Array(prefix.utf8)
    self.replacement = Array(replacement.utf8)
    self.operationsPerTransaction = operationsPerTransaction
  }

  private var range: (key: Data, end: Data) {
    prefix.isEmpty
      ? (Data([0]), Data([0])) : (Data(prefix), Data(StoreRange.endOfPrefix(prefix)))
  }

  private func destination(of key: Data) -> Data { Data(replacement + key.dropFirst(prefix.count)) }

  /// Copies what there is at one revision, page by page.
  ///
  /// - Returns: the revision.
  func copyAll() async throws -> Int64 {
    var request = Etcdserverpb_RangeRequest()
    (request.key, request.rangeEnd) = range
    request.limit = Self.pageKeys
    while true {
      let page = request
      let answer: Etcdserverpb_RangeResponse = try await calling {
        try await source.call("KV/Range", page, isSafe: true, timeout: Self.writeTimeout)
      }
      if request.revision == 0 { request.revision = answer.header.revision }
      try await write(answer.kvs.map { put($0) })
      guard answer.more, let last = answer.kvs.last else { return request.revision }
      request.key = last.key + [0]
    }
  }

  /// Copies changes as they come. A revision's changes stay together.
  func follow(from revision: Int64) async throws {
    let (key, end) = range
    var pending: [Etcdserverpb_RequestOp] = []
    var pendingRevision: Int64 = 0
    let watch = MirrorWatch(source, key: key, end: end, from: revision)
    while true {
      for event in try await watch.next() {
        if event.kv.modRevision != pendingRevision {
          try await write(pending)
          pending = []
          pendingRevision = event.kv.modRevision
        }
        pending.append(
          event.type == .put
            ? put(event.kv)
            : .with { $0.requestDeleteRange.key = destination(of: event.kv.key) })
      }
      try await write(pending)
      pending = []
    }
  }

  private func put(_ record: Mvccpb_KeyValue) -> Etcdserverpb_RequestOp {
    .with {
      $0.requestPut.key = destination(of: record.key)
      $0.requestPut.value = record.value
    }
  }

  private func write(_ operations: [Etcdserverpb_RequestOp]) async throws {
    var rest = operations[...]
    while !rest.isEmpty {
      var bytes = 0
      let part = rest.prefix { operation in
        defer { bytes += operation.requestPut.key.count + operation.requestPut.value.count }
        return bytes < Self.transactionBytes
      }.prefix(operationsPerTransaction)
      let txn = Etcdserverpb_TxnRequest.with { $0.success = Array(part) }
      // To write the same again does no harm: only this process writes there, in the order of the source.
      let _: Etcdserverpb_TxnResponse = try await calling {
        try await destination.call("KV/Txn", txn, isSafe: true, timeout: Self.writeTimeout)
      }
      total.wrappingAdd(part.count, ordering: .relaxed)
      rest = rest.dropFirst(part.count)
    }
  }
}

/// A watch over broken connections, message by message.
private actor MirrorWatch {
  private let client: MessageClient
  private let key: Data
  private let end: Data
  private var revision: Int64
  private var stream: MessageStream<Etcdserverpb_WatchRequest, Etcdserverpb_WatchResponse>?

  init(_ client: MessageClient, key: Data, end: Data, from revision: Int64) {
    self.client = client
    self.key = key
    self.end = end
    self.revision = revision
  }

  /// The next changes.
  ///
  /// - Throws: `CtlFailure` where the watch can't go on: what comes next was compacted away.
  func next() async throws -> [Mvccpb_Event] {
    while true {
      do {
        guard let stream else {
          let new: MessageStream<Etcdserverpb_WatchRequest, Etcdserverpb_WatchResponse> =
            try await client.open("Watch/Watch", requiresLeader: true)
          try await new.send(
            .with {
              $0.createRequest.key = key
              $0.createRequest.rangeEnd = end
              $0.createRequest.startRevision = revision
            })
          self.stream = new
          continue
        }
        guard let answer = try await stream.next() else {
          self.stream = nil
          continue
        }
        if answer.canceled {
          throw CtlFailure(
            .error,
            answer.compactRevision != 0
              ? "etcdserver: mvcc: required revision has been compacted" : answer.cancelReason)
        }
        guard let last = answer.events.last else { continue }
        revision = last.kv.modRevision + 1
        return answer.events
      } catch let error as StoreError {
        stream = nil
        if let status = error.status, status.code != .unavailable { throw CtlFailure(error) }
        if error.code == .cancelled { throw CancellationError() }
        CtlOutput.log(error.message)
        try await Task.sleep(for: .milliseconds(500))
      }
    }
  }
}
