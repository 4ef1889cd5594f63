import Foundation
import TestKit
import Testing

#if canImport(Glibc)
  import Glibc
#endif

extension StoreConformance {
  /// `martlet ctl` prints what etcdctl 3.5.1 prints.
  @Suite(.serialized) struct CtlCommands {
    @Test(
      "The transcripts that etcd and etcdctl made hold for our store and client, too",
      arguments: GoldenRunner().files)
    func transcripts(file: String) throws {
      let cluster = try StoreCluster(.martlet, members: 3)
      let session = EtcdctlSession(
        try #require(Peers.martlet), prefix: ["ctl"], endpoints: cluster.endpoints)
      try GoldenRunner(mayRewrite: false).run(file, session.perform)
    }

    @Test(
      "They hold for our client with a real etcd", .enabled(if: Peers.etcd != nil, Missing.etcd),
      arguments: ["txn.txt", "watch.txt"])
    func againstEtcd(file: String) throws {
      let cluster = try StoreCluster(.etcd)
      let session = EtcdctlSession(
        try #require(Peers.martlet), prefix: ["ctl"], endpoints: cluster.endpoints)
      try GoldenRunner(mayRewrite: false).run(file, session.perform)
    }

    /// Two clusters of ours, driven by the same commands, one by etcdctl and one by our client.
    @Test(
      "Side by side with etcdctl, in every format",
      .enabled(if: Peers.etcdctl != nil, Missing.etcdctl))
    func sideBySide() throws {
      let theirs = Side(Peers.etcdctl!, [], try StoreCluster(.martlet))
      let ours = Side(Peers.martlet!, ["ctl"], try StoreCluster(.martlet))
      for line in Self.commands.split(separator: "\n") where !line.isEmpty {
        let command = GoldenCommand(text: String(line))
        let expected = try theirs.run(command)
        let actual = try ours.run(command)
        #expect(actual == expected, "\(line)")
      }
      // What is in bytes, or full of ids, from one cluster.
      for line in Self.reads.split(separator: "\n") {
        let command = GoldenCommand(text: String(line))
        let expected = try Side(theirs.program, [], ours.cluster).outcome(command)
        let actual = try ours.outcome(command)
        #expect(actual.output == expected.output && actual.status == expected.status, "\(line)")
      }
    }

    @Test(
      "Our locks and etcdctl's exclude each other, and a signal frees them",
      .enabled(if: Peers.etcdctl != nil, Missing.etcdctl))
    func locks() throws {
      let cluster = try StoreCluster(.martlet)
      let environment = ["ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": cluster.endpoints]
      let ours = try Peers.martlet!.start(["ctl", "lock", "l"], environment: environment)
      #expect(waitUntil(seconds: 10) { ours.output.hasPrefix("l/") })
      let theirs = try Peers.etcdctl!.start(["lock", "l"], environment: environment)
      let mine = try Peers.martlet!.start(
        ["ctl", "lock", "l", "--", "sh", "-c", "echo $ETCD_LOCK_KEY; exit 3"],
        environment: environment)
      let entered = try waitUntil(seconds: 10) {
        let keys = try Etcdctl(endpoints: cluster.endpoints)(["get", "l/", "--prefix", "--keys-only"])
        return keys.split(separator: "\n").count == 3
      }
      #expect(entered && theirs.output.isEmpty && mine.output.isEmpty, "both wait")
      ours.signal(SIGTERM)
      #expect(ours.waitUntilExit(seconds: 10) && ours.status == 0)
      #expect(waitUntil(seconds: 10) { theirs.output.hasPrefix("l/") })
      #expect(mine.output.isEmpty)
      theirs.signal(SIGINT)
      #expect(mine.waitUntilExit(seconds: 10) && mine.status == 3, "the command's own status")
      #expect(mine.output.hasPrefix("l/"))
    }

    @Test(
      "An election goes from etcdctl's candidate to ours, and the observer sees both",
      .enabled(if: Peers.etcdctl != nil, Missing.etcdctl))
    func elections() throws {
      let cluster = try StoreCluster(.martlet)
      let environment = ["ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": cluster.endpoints]
      let theirs = try Peers.etcdctl!.start(["elect", "e", "first"], environment: environment)
      #expect(waitUntil(seconds: 10) { theirs.output.hasSuffix("first\n") })
      let observer = try Peers.martlet!.start(["ctl", "elect", "-l", "e"], environment: environment)
      #expect(waitUntil(seconds: 10) { observer.output.hasSuffix("first\n") })
      let ours = try Peers.martlet!.start(["ctl", "elect", "e", "second"], environment: environment)
      let entered = try waitUntil(seconds: 10) {
        try Etcdctl(endpoints: cluster.endpoints)(["get", "e/", "--prefix"]).contains("second")
      }
      #expect(entered && ours.output.isEmpty, "it waits")
      theirs.signal(SIGINT)
      #expect(waitUntil(seconds: 10) { ours.output.hasSuffix("second\n") })
      #expect(waitUntil(seconds: 10) { observer.output.hasSuffix("second\n") })
      ours.signal(SIGTERM)
      observer.signal(SIGTERM)
      #expect(ours.waitUntilExit(seconds: 10) && ours.status == 0)
      #expect(observer.waitUntilExit(seconds: 10) && observer.status == 0)
    }

    private static let reads = """
      get "" --prefix -w protobuf
      get "" --prefix -w json
      member list -w protobuf
      member list
      member list -w json
      role list -w protobuf
      user list -w protobuf
      alarm list -w protobuf
      lease list
      endpoint status
      endpoint status -w table
      endpoint hashkv
      """

    private static let commands = """
      put a 1
      put a 2 --prev-kv
      put a 3 --prev-kv -w fields
      put a 3 --prev-kv -w json
      put a 3 -w table
      put "odd \\ key" "<tag> & more"
      get "odd \\ key" -w fields
      get "odd \\ key" -w json
      get a --hex
      get "" --prefix=true --keys-only
      get a --print-value-only -w json
      get a --count-only
      get a --count-only -w fields
      get
      get a b c
      get a --prefix --from-key
      get a b --prefix
      get a --consistency=x
      get a --order=sideways
      get a --sort-by=colour
      get --limit=1 --sort-by=modify --order=descend "" --prefix
      -w json get a
      --write-out=fields get a --rev=2
      get a --rev=2 --consistency=s
      get a --rev=1000
      del a b c
      del nothing -w json
      put b 1
      del b --prev-kv -w fields
      put b 1
      del b --prev-kv -w json
      del
      put
      put k v --lease=zz
      put k v --lease=99
      compaction
      compaction x
      compaction 3
      compaction 2
      lease grant
      lease grant x
      lease grant 100 -w json
      lease grant 100 -w fields
      lease grant 100 -w table
      lease list
      lease list -w json
      lease list -w fields
      lease timetolive 1234
      lease timetolive 1234 -w json
      lease timetolive
      lease timetolive xyz
      lease revoke 1234
      lease keep-alive 1234 --once
      lease keep-alive 1234
      member list
      member list -w table
      member list -w json
      member list -w fields
      member add
      member add x
      member add x y
      member add x http://127.0.0.1:1
      member remove
      member remove xyz
      member remove 1234
      member update 1234
      member update 1234 --peer-urls=http://127.0.0.1:1
      member promote 1234
      endpoint status
      endpoint status -w table
      endpoint status -w fields
      endpoint health
      endpoint health -w json
      endpoint health -w table
      endpoint health --cluster
      endpoint hashkv
      endpoint hashkv -w table
      endpoint hashkv -w json
      endpoint hashkv -w fields
      endpoint hashkv --rev=5
      alarm list
      alarm list x
      alarm list -w json
      alarm list -w fields
      alarm disarm
      defrag
      defrag --cluster
      move-leader
      move-leader xyz
      auth status
      auth status x
      auth enable
      user add
      user add alice:secret
      user add alice:secret -w json
      user add bob --new-user-password=b -w json
      user add carol --no-password -w fields
      user add :x
      user list
      user list -w json
      user get alice
      user get alice -w json
      user get nobody
      user grant-role alice
      user grant-role alice nothing
      role add
      role add r
      role add s -w json
      role list -w json
      role list -w fields
      role grant-permission r
      role grant-permission r sometimes a
      role grant-permission r read a
      role grant-permission r write a b
      role grant-permission r readwrite "" --prefix
      role grant-permission r read a --prefix --from-key
      role grant-permission r read a b --prefix
      role get r
      role get r -w json
      role get r -w fields
      role revoke-permission r a b
      role revoke-permission r "" --prefix
      role revoke-permission r a
      user grant-role alice r
      user get alice --detail
      user revoke-role alice r
      role delete r
      role delete r
      user delete alice -w json
      user delete alice
      elect
      elect e
      elect e p -l
      lock
      lock l true
      lock l false
      make-mirror
      snapshot save
      txn x
      get a -w nonsense
      version x
      """
  }

  /// A cluster and the client that drives it.
  private struct Side {
    let program: Program
    let prefix: [String]
    let cluster: StoreCluster

    init(_ program: Program, _ prefix: [String], _ cluster: StoreCluster) {
      self.program = program
      self.prefix = prefix
      self.cluster = cluster
    }

    func outcome(_ command: GoldenCommand) throws -> Program.Outcome {
      try program.run(
        prefix + [command.name] + command.arguments,
        environment: ["ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": cluster.endpoints], seconds: 20)
    }

    /// What the command printed, and how it ended; what differs between any two clusters is masked.
    func run(_ command: GoldenCommand) throws -> String {
      let outcome = try outcome(command)
      let errors = outcome.errors.split(separator: "\n", omittingEmptySubsequences: false)
        .filter { !$0.hasPrefix(#"{"level":"#) }.joined(separator: "\n")
      var text = outcome.output + errors + "exit \(outcome.status)"
      for member in cluster.members {
        text = text.replacingOccurrences(of: "\(member.clientPort)", with: "PORT1")
          .replacingOccurrences(of: "\(member.peerPort)", with: "PORT2")
      }
      text.replace(
        /"(cluster_id|member_id|raft_term|ID|id|leader|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse)":[0-9]+/
      ) {
        "\"\($0.1)\":*"
      }
      text.replace(
        /"(ClusterID|MemberID|RaftTerm|ID|Leader|RaftIndex|RaftAppliedIndex|DBSize)" : [0-9]+/
      ) {
        "\"\($0.1)\" : *"
      }
      text.replace(/\b[0-9a-f]{15,16}\b/) { _ in "ID" }
      text.replace(/[0-9.]+(µs|ms)/) { _ in "TOOK" }
      text.replace(/"took":"[^"]*"/) { _ in "\"took\":*" }
      // What etcdctl 3.5.1 doesn't know yet, and what we call ourselves.
      text.replace(/,"hash_revision":[0-9]+/) { _ in "" }
      text.replace(/etcdctl version: [0-9.]+/) { _ in "etcdctl version: *" }
      text.replace(/[ -]{3,}/) { _ in "   " }
      return text
    }
  }
}
