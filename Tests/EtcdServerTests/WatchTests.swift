import EtcdProto
import EtcdServer
import EtcdWire
import Foundation
import HTTP2
import Testing

/// The Watch service, and the guarantees that etcd's API gives of it: Ordered, Unique, Atomic, Reliable,
/// Resumable, Bookmarkable.
@Suite struct WatchTests {
  @Test("From now on: created at the revision behind which the events begin")
  func present() async throws {
    try await World.with { _, client in
      try await client.put("a", "0")
      var watch = try await WatchCall(client)
      try await watch.create("a", "b")
      let created = try await watch.next()
      #expect(created.created && created.watchID == 0 && created.header.revision == 2)
      try await client.put("a1", "1")
      try await client.put("x", "unwatched")
      try await client.delete("a1")
      #expect(try await watch.events(through: 5) == ["PUT a1@3", "DELETE a1@5"])
    }
  }

  @Test("From a past revision, with previous values and filters")
  func past() async throws {
    try await World.with { _, client in
      try await client.put("a", "1")
      try await client.put("a", "2")
      try await client.delete("a")
      try await client.put("a", "3")
      var watch = try await WatchCall(client)
      try await watch.create("a") {
        $0.startRevision = 3
        $0.prevKv = true
        $0.filters = [.nodelete]
      }
      #expect(try await watch.next().created)
      #expect(try await watch.events(through: 5) == ["PUT a@3 was 1", "PUT a@5"])
      try await watch.create("a") {
        $0.startRevision = 2
        $0.filters = [.noput]
        $0.watchID = 9
      }
      #expect(try await watch.next().watchID == 9)
      let deletion = try await watch.next()
      #expect(deletion.watchID == 9 && deletion.events.map(describe) == ["DELETE a@4"])
    }
  }

  @Test("From a future revision: silent until it is reached")
  func future() async throws {
    try await World.with { _, client in
      var watch = try await WatchCall(client)
      try await watch.create("a") { $0.startRevision = 4 }
      let created = try await watch.next()
      #expect(created.created && created.header.revision == 1)
      for value in 1...4 { try await client.put("a", "\(value)") }
      #expect(try await watch.events(through: 5) == ["PUT a@4", "PUT a@5"])
    }
  }

  @Test(
    "Many watchers of one stream get every event under their own ids, however many fit into a frame",
    arguments: [0, 300, 9_000, 40_000])
  func manyOnOneStream(valueSize: Int) async throws {
    try await World.with { _, client in
      var crowd = try await WatchCall(client)
      var other = try await WatchCall(client)
      // Ids of one, two and three bytes, and the one that is left out on the wire.
      let ids: [Int64] = [0] + (1...60).map { $0 } + (200...240).map { $0 } + [20_000, .max]
      for id in ids {
        try await crowd.create("k") { $0.watchID = id }
        #expect(try await crowd.next().watchID == id)
      }
      try await other.create("k")
      _ = try await other.next()
      let value = String(repeating: "v", count: valueSize)
      for revision in Int64(2)...4 {
        try await client.put("k", value)
        var seen: [Int64] = []
        for _ in ids {
          let response = try await crowd.next()
          seen.append(response.watchID)
          #expect(response.header.revision == revision)
          #expect(response.events.map(describe) == ["PUT k@\(revision)"])
          #expect(response.events.allSatisfy { $0.kv.value.count == valueSize })
        }
        #expect(seen.sorted() == ids)
        #expect(try await other.next().events.map(describe) == ["PUT k@\(revision)"])
      }
    }
  }

  @Test("Reliable, Ordered and Unique where the past meets the present")
  func joining() async throws {
    try await World.with { _, client in
      for number in 0..<300 { try await client.put("k", "\(number)") }
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask {
          for number in 300..<900 { try await client.put("k", "\(number)") }
        }
        for _ in 0..<8 {
          group.addTask {
            var watch = try await WatchCall(client)
            try await watch.create("k") { $0.startRevision = 2 }
            let lines = try await watch.events(through: 901)
            #expect(lines == (2...901).map { "PUT k@\($0)" })
          }
        }
        try await group.waitForAll()
      }
    }
  }

  @Test("A client that doesn't read loses nothing, and holds nobody up")
  func slowClient() async throws {
    try await World.with { world, client in
      let slow = try await WireClient(port: world.port)
      var watch = try await WatchCall(slow)
      try await watch.create("k")
      #expect(try await watch.next().created)
      // Far more than windows and queues hold: the watcher leaves the writer and comes back.
      let value = String(repeating: "x", count: 200_000)
      for _ in 0..<150 { try await client.put("k", value) }
      let lines = try await watch.events(through: 151)
      #expect(lines == (2...151).map { "PUT k@\($0)" })
      await slow.close()
    }
  }

  @Test("Atomic: a transaction's events come in one response, or in fragments if asked for")
  func atomic() async throws {
    var settings = EtcdServerSettings()
    // Less than the events take, more than the request.
    settings.maxRequestBytes = 3_400
    try await World.with(settings) { _, client in
      var whole = try await WatchCall(client)
      try await whole.create("k", "l")
      #expect(try await whole.next().created)
      var pieces = try await WatchCall(client)
      try await pieces.create("k", "l") { $0.fragment = true }
      #expect(try await pieces.next().created)
      var txn = Etcdserverpb_TxnRequest()
      txn.success = (0..<30).map { number in
        var put = Etcdserverpb_RequestOp()
        put.requestPut.key = .init("k\(number + 10)".utf8)
        put.requestPut.value = .init(repeating: 1, count: 100)
        return put
      }
      let _: Etcdserverpb_TxnResponse = try await client.call("KV/Txn", txn)
      #expect(try await whole.next().events.count == 30)
      var fragments: [Etcdserverpb_WatchResponse] = []
      repeat { fragments.append(try await pieces.next()) } while fragments.last?.fragment == true
      #expect(fragments.count > 1 && fragments.reduce(0) { $0 + $1.events.count } == 30)
    }
  }

  @Test("Bookmarkable: progress comes behind every event, once all watchers have caught up")
  func progress() async throws {
    try await World.with { _, client in
      var watch = try await WatchCall(client)
      try await watch.create("a")
      try await watch.create("b") { $0.startRevision = 1 }
      try await client.put("b", "1")
      try await client.put("c", "unwatched")
      try await watch.requestProgress()
      var sawEvent = false
      while true {
        let response = try await watch.next()
        if !response.events.isEmpty { sawEvent = true }
        if response.watchID == -1 {
          #expect(sawEvent && response.header.revision == 3 && response.events.isEmpty)
          break
        }
      }
    }
  }

  @Test("A quiet watcher that asked for it is told how far it is")
  func progressNotify() async throws {
    var settings = EtcdServerSettings()
    settings.watchProgressInterval = .milliseconds(600)
    try await World.with(settings) { _, client in
      var watch = try await WatchCall(client)
      try await watch.create("a") { $0.progressNotify = true }
      #expect(try await watch.next().created)
      try await client.put("x", "1")
      let progress = try await watch.next()
      #expect(progress.events.isEmpty && progress.watchID == 0 && progress.header.revision == 2)
    }
  }

  @Test("Cancelling ends one watcher; ids can't be taken twice; ranges must hold something")
  func cancelling() async throws {
    try await World.with { _, client in
      var watch = try await WatchCall(client)
      try await watch.create("a") { $0.watchID = 5 }
      #expect(try await watch.next().watchID == 5)
      try await watch.create("b") { $0.watchID = 5 }
      let duplicate = try await watch.next()
      #expect(duplicate.created && duplicate.canceled && duplicate.watchID == -1)
      #expect(duplicate.cancelReason == "mvcc: duplicate watch ID provided on the WatchStream")
      try await watch.create("b", "a")
      #expect(try await watch.next().cancelReason == "mvcc: watcher range is empty")
      try await watch.cancel(5)
      let cancelled = try await watch.next()
      #expect(cancelled.canceled && cancelled.watchID == 5)
      try await client.put("a", "1")
      try await watch.create("a") { $0.startRevision = 2 }
      let created = try await watch.next()
      #expect(created.created && created.watchID == 0)
      #expect(try await watch.events(through: 2) == ["PUT a@2"])
    }
  }

  @Test("A start that was compacted away cancels the watcher with the revision to go on from")
  func compacted() async throws {
    try await World.with { _, client in
      for _ in 0..<5 { try await client.put("a", "1") }
      try await client.compact(4)
      var watch = try await WatchCall(client)
      try await watch.create("a") { $0.startRevision = 2 }
      #expect(try await watch.next().created)
      let cancelled = try await watch.next()
      #expect(cancelled.canceled && cancelled.compactRevision == 4)
    }
  }

  @Test("Streams that require a leader end without one")
  func requireLeader() async throws {
    try await World.with { world, client in
      let metadata = [HeaderField("hasleader", "true")]
      var watch = try await WatchCall(client, metadata: metadata)
      try await watch.create("a")
      #expect(try await watch.next().created)
      world.front.setLeader(false)
      await #expect(throws: GRPCStatus(.unavailable, EtcdError.noLeader.text)) {
        _ = try await watch.next()
      }
      await #expect(throws: GRPCStatus(.unavailable, EtcdError.noLeader.text)) {
        var late = try await WatchCall(client, metadata: metadata)
        _ = try await late.next()
      }
    }
  }

  @Test("A stream that goes takes its watchers with it")
  func ending() async throws {
    try await World.with { _, client in
      var watch = try await WatchCall(client)
      for _ in 0..<10 {
        try await watch.create("a")
        #expect(try await watch.next().created)
      }
      // Who has nothing more to say goes on listening.
      try await watch.call.endSending()
      try await client.put("a", "0")
      for _ in 0..<10 { #expect(try await watch.next().events.count == 1) }
      try await watch.call.cancel()
      let other = try await WatchCall(client)
      try await other.create("a")
      try await other.call.cancel()
      try await client.put("a", "1")
    }
  }
}
