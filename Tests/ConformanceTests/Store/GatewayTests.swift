import Foundation
import TestKit
import Testing

extension StoreConformance {
  /// The JSON gateway: one script of requests to real etcd and to ours, and the answers compared.
  ///
  /// Deliberate differences: what is wrong with malformed JSON is said in other words; `hashkv` has a path, as
  /// in later releases; a watch that nobody logged in for is refused as "user name is empty", as in later
  /// releases, which tells clients to log in.
  @Suite(
    .serialized, .enabled(if: Peers.etcd != nil, Missing.etcd),
    .enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/curl"), "needs curl"))
  struct Gateway {
    enum Comparison {
      /// HTTP status, content type and body.
      case whole
      /// HTTP status and, of errors, the code.
      case status
    }

    struct Call {
      var path: String
      var body: String
      var compares = Comparison.whole
      /// Of a stream that doesn't end by itself: after how long to look at it.
      var seconds: Double?

      init(
        _ path: String, _ body: String, _ compares: Comparison = .whole, seconds: Double? = nil
      ) {
        self.path = path
        self.body = body
        self.compares = compares
        self.seconds = seconds
      }
    }

    // `Zm9v` is "foo", `YmFy` "bar", `AA==` a zero byte.
    static let script = [
      Call("kv/put", #"{"key":"Zm9v","value":"YmFy","prev_kv":true}"#),
      Call("kv/put", #"{"key":"Zm9v","value":"YmFy","prevKv":true}"#),
      Call("kv/put", #"{"key":"Zm9v","nosuch":1}"#),
      Call("kv/put", "{}"), Call("kv/put", ""),
      Call("kv/put", #"{"key":"!!"}"#, .status), Call("kv/put", #"{"key":"#, .status),
      Call("kv/put", #"{"key":5}"#, .status), Call("kv/put", "[]", .status),
      Call("kv/range", #"{"key":"Zm9v"}"#),
      Call("kv/range", #"{"key":"Zm9v","limit":"1","sort_order":"DESCEND","sort_target":1}"#),
      Call("kv/range", #"{"key":"AA==","range_end":"AA==","count_only":true}"#),
      Call("kv/range", #"{"key":"Zm9v","revision":99}"#),
      Call("kv/range", #"{"key":"Zm9v","sort_order":"SIDEWAYS"}"#, .status),
      Call("kv/deleterange", #"{"key":"Zm9v","prev_kv":true}"#),
      Call(
        "kv/txn",
        #"{"compare":[{"key":"Zm9v","result":"EQUAL","target":"VERSION","version":"0"}],"#
          + #""success":[{"requestPut":{"key":"Zm9v","value":"eA=="}}],"#
          + #""failure":[{"request_range":{"key":"Zm9v"}}]}"#),
      Call("kv/txn", #"{"success":[{"request_txn":{"success":[{"request_range":{"key":"Zm9v"}}]}}]}"#),
      Call("kv/compaction", #"{"revision":"2"}"#), Call("kv/compaction", #"{"revision":"2"}"#),
      Call("lease/grant", #"{"TTL":"600","ID":"77"}"#),
      Call("lease/grant", #"{"TTL":"600","ID":"77"}"#),
      Call("kv/put", #"{"key":"bGVhc2Vk","lease":"77"}"#),
      Call("lease/timetolive", #"{"ID":"77","keys":true}"#),
      Call("kv/lease/timetolive", #"{"ID":"78"}"#), Call("lease/leases", "{}"),
      Call("kv/lease/leases", "{}"),
      Call("lease/keepalive", #"{"ID":"77"}"#),
      Call("lease/keepalive", #"{"ID":"77"}{"ID":"78"}"#),
      Call("lease/revoke", #"{"ID":"77"}"#), Call("lease/revoke", #"{"ID":"77"}"#),
      Call("kv/lease/revoke", #"{"ID":"77"}"#),
      Call("cluster/member/list", "{}"), Call("maintenance/status", "{}", .status),
      Call("maintenance/alarm", #"{"action":"GET"}"#), Call("maintenance/hash", "{}", .status),
      Call("maintenance/defragment", "{}", .status),
      Call("watch", #"{"create_request":{"key":"Zm9v","start_revision":"2"}}"#, seconds: 0.5),
      Call(
        "watch",
        #"{"create_request":{"key":"Zm9v","start_revision":"5","prev_kv":true,"filters":["NOPUT"]}}"#,
        seconds: 0.5),
      Call("watch", #"{"create_request":{"key":"Zm9v","start_revision":"1"}}"#, seconds: 0.5),
      Call("watch", #"{"create_request":{}} {"cancel_request":{"watch_id":"0"}}"#, seconds: 0.5),
      Call("watch", #"{"bad"#, .status),
      Call("nosuch", "{}"), Call("kv/nosuch", "{}"),
      Call("auth/status", "{}"), Call("auth/enable", "{}"),
      Call("auth/user/add", #"{"name":"root","password":"x"}"#),
      Call("auth/user/add", #"{"name":"root","password":"x"}"#),
      Call("auth/user/list", "{}"), Call("auth/user/get", #"{"name":"root"}"#),
      Call("auth/user/get", #"{"name":"nosuch"}"#),
      Call("auth/authenticate", #"{"name":"root","password":"x"}"#),
      Call("auth/role/add", #"{"name":"root"}"#),
      Call("auth/role/grant", #"{"name":"root","perm":{"permType":"READWRITE","key":"Zm9v"}}"#),
      Call("auth/role/get", #"{"role":"root"}"#), Call("auth/role/list", "{}"),
      Call("auth/role/revoke", #"{"role":"root","key":"Zm9v"}"#),
      Call("auth/user/grant", #"{"user":"root","role":"root"}"#), Call("auth/enable", "{}"),
      Call("kv/range", #"{"key":"Zm9v"}"#),
      Call("auth/authenticate", #"{"name":"root","password":"wrong"}"#),
    ]

    /// What follows a login: the last word of each is the token to use.
    static let afterLogin = [
      Call("kv/range", #"{"key":"Zm9v"}"#), Call("kv/put", #"{"key":"Zm9v"}"#),
      Call("auth/status", "{}"),
      Call("watch", #"{"create_request":{"key":"Zm9v","start_revision":"3"}}"#, seconds: 0.5),
      Call("auth/disable", "{}"),
    ]

    @Test func theScriptGivesTheSame() throws {
      let etcd = try StoreCluster(.etcd)
      let martlet = try StoreCluster(.martlet)
      func compare(_ call: Call, tokens: (String, String)? = nil) throws {
        let expected = try perform(call, on: etcd, token: tokens?.0)
        let actual = try perform(call, on: martlet, token: tokens?.1)
        #expect(actual == expected, "\(call.path) \(call.body)")
      }
      for call in Self.script { try compare(call) }
      let tokens = (try logIn(etcd), try logIn(martlet))
      for call in Self.afterLogin { try compare(call, tokens: tokens) }
      for method in ["GET", "PUT"] {
        let answers = try [etcd, martlet].map {
          try curl($0, "kv/range", ["-X", method])
        }
        #expect(answers[1] == answers[0], "\(method)")
      }
    }

    @Test func aSnapshotComesInLines() throws {
      let martlet = try StoreCluster(.martlet)
      _ = try perform(Call("kv/put", #"{"key":"Zm9v"}"#), on: martlet)
      let lines = try curl(martlet, "maintenance/snapshot", ["-d", "{}"]).split(separator: "\n")
      #expect(lines.last == "200 application/json" && lines.count > 2)
      #expect(lines.dropLast().allSatisfy { $0.hasPrefix(#"{"result":{"#) && $0.contains("blob") })
    }

    @Test func anInvalidTokenAndAnOversizedBodyAreRefused() throws {
      let martlet = try StoreCluster(.martlet)
      for call in [
        Call("auth/user/add", #"{"name":"root","password":"x"}"#),
        Call("auth/role/add", #"{"name":"root"}"#),
        Call("auth/user/grant", #"{"user":"root","role":"root"}"#), Call("auth/enable", "{}"),
      ] {
        #expect(try perform(call, on: martlet).hasPrefix("200"))
      }
      let refused = try perform(
        Call("kv/range", #"{"key":"Zm9v"}"#), on: martlet, token: "forged.1")
      #expect(refused.hasPrefix("401") && refused.contains("invalid auth token"), "\(refused)")
      let large = String(repeating: "A", count: 4 << 20)
      let folder = TestFolder()
      try #"{"key":"Zm9v","value":"\#(large)"}"#.write(
        toFile: folder.path + "/large", atomically: false, encoding: .utf8)
      let answer = try curl(martlet, "kv/put", ["-d", "@\(folder.path)/large"])
      #expect(answer.contains("413"), "\(answer)")
    }

    // MARK: Asking

    private func curl(
      _ cluster: StoreCluster, _ path: String, _ arguments: [String]
    ) throws -> String {
      try Program(path: "/usr/bin/curl").run(
        ["-sN", "-w", "\n%{http_code} %{content_type}"] + arguments
          + ["http://\(cluster.members[0].endpoint)/v3/\(path)"]
      ).output
    }

    private func logIn(_ cluster: StoreCluster) throws -> String {
      let answer = try curl(
        cluster, "auth/authenticate", ["-d", #"{"name":"root","password":"x"}"#])
      let match = try #require(answer.firstMatch(of: /"token":"([^"]+)"/), "\(answer)")
      return String(match.1)
    }

    /// Status, content type and body, with what differs from run to run masked and keys in order.
    private func perform(
      _ call: Call, on cluster: StoreCluster, token: String? = nil
    ) throws -> String {
      var arguments = ["-d", call.body]
      if let token { arguments += ["-H", "Authorization: \(token)"] }
      if let seconds = call.seconds { arguments += ["--max-time", "\(seconds)"] }
      var lines = try curl(cluster, call.path, arguments).split(
        separator: "\n", omittingEmptySubsequences: false)
      let status = String(lines.removeLast())
      let bodies = lines.filter { !$0.isEmpty }.map { normalised(String($0), call.compares) }
      return ([status] + bodies).joined(separator: "\n")
    }

    private func normalised(_ text: String, _ comparison: Comparison) -> String {
      guard let value = try? JSONSerialization.jsonObject(with: Data(text.utf8)) else { return text }
      if comparison == .status {
        return (value as? [String: Any])?["code"].map { "code \($0)" } ?? ""
      }
      let masked = mask(value)
      let data = try? JSONSerialization.data(withJSONObject: masked, options: [.sortedKeys])
      return data.map { String(decoding: $0, as: UTF8.self) } ?? text
    }

    private static let masked: Set<String> = [
      "cluster_id", "member_id", "raft_term", "token", "name", "peerURLs", "clientURLs",
    ]

    private func mask(_ value: Any) -> Any {
      if let list = value as? [Any] { return list.map(mask) }
      guard let object = value as? [String: Any] else { return value }
      var result: [String: Any] = [:]
      for (key, value) in object {
        if Self.masked.contains(key) {
          result[key] = "*"
        } else if key == "TTL", let text = value as? String, let seconds = Int(text), seconds > 590 {
          result[key] = "almost 600"
        } else if key == "ID", let text = value as? String, text.count > 10 {
          result[key] = "*"
        } else {
          result[key] = mask(value)
        }
      }
      // etcd leaves the revision out where it cancels a watch that starts too early.
      if object["compact_revision"] != nil { result["header"] = "*" }
      return result
    }
  }
}
