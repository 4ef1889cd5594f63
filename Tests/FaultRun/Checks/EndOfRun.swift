import EtcdProto
import Foundation
import TestKit
import Verification

/// Nobody asks for anything any more, nothing fails any more: all leases must end, and all members must agree.
struct EndOfRun {
  private let injector: FaultInjector
  private let admin = Operator()

  init(_ injector: FaultInjector) { self.injector = injector }

  private var members: Range<Int> { injector.cluster.members.indices }

  /// - Returns: the revision at which everything rests.
  func settle() throws -> Int64 {
    try awaitEndOfLeases()
    try injector.cluster.verifyAlive()
    var last: any Error = FaultRunFailure("nothing was compared")
    // A request that its client gave up may still take effect late, between two looks.
    for _ in 0..<5 {
      do {
        let revision = try compare()
        if try readOnceMore() == revision { return revision }
      } catch { last = error }
      usleep(500_000)
    }
    throw last
  }

  /// Nobody renews them, so they must be gone: the longest time, and what elections and a slow machine add.
  private func awaitEndOfLeases() throws {
    let longest = 7.0
    var left: [String] = []
    let isEmpty = try waitUntil(seconds: longest + 15, every: 0.3) {
      left = try admin.insist(seconds: 10) { try admin.everything(at: 0) }.kvs
        .map { String(decoding: $0.key, as: UTF8.self) }.filter { $0.hasPrefix("lease/") }
      return left.isEmpty
    }
    guard isEmpty else {
      throw FaultRunFailure("leases outlive their time, though nobody renews them: \(left)")
    }
  }

  /// One last reader, whose answer is checked with all others: it sees what the members agree on.
  private func readOnceMore() throws -> Int64 {
    let call = injector.recorder.begin(.range(ModelRange([0], end: [0])), client: -2)
    let answer = try admin.everything(at: 0, isSerializable: false)
    injector.recorder.finish(call, .answered(ModelResponse(answer), revision: answer.header.revision))
    return answer.header.revision
  }

  private func compare() throws -> Int64 {
    guard let revision = admin.revision(at: members.lowerBound) else {
      throw FaultRunFailure("m0 answers no linearizable read at rest")
    }
    var first: (content: Etcdserverpb_RangeResponse, hash: UInt32, compacted: Int64)?
    for member in members {
      guard let own = admin.revision(at: member), own == revision else {
        throw FaultRunFailure("m\(member) is not at revision \(revision) at rest")
      }
      let content = try admin.everything(at: member)
      let hash = try admin.hash(at: member, revision: revision)
      guard let first else {
        first = (content, hash.hash, hash.compactRevision)
        continue
      }
      guard content.kvs == first.content.kvs else {
        throw FaultRunFailure("m0 and m\(member) have other records at revision \(revision)")
      }
      guard hash.hash == first.hash || hash.compactRevision != first.compacted else {
        throw FaultRunFailure(
          "m0 and m\(member) have other hashes at revision \(revision): \(first.hash) and \(hash.hash)")
      }
      guard hash.compactRevision == first.compacted else {
        throw FaultRunFailure(
          "m0 is compacted at \(first.compacted), m\(member) at \(hash.compactRevision), at rest")
      }
    }
    return revision
  }
}
