import EtcdProto
import EtcdWire
import Foundation
import HTTP2
import MVCC
import SwiftProtobuf
import Testing

@testable import EtcdServer

/// Who may call what, with authentication on.
@Suite struct AuthTests {
  static let settings = {
    var settings = EtcdServerSettings()
    settings.bcryptCost = 4
    return settings
  }()

  /// Users root, alice (reads a to c, writes b) and bob (nothing); keys a, b, c; lease 7 on m, which only
  /// root may touch, and lease 8 on ab, which alice may read.
  static func with(
    _ settings: EtcdServerSettings = AuthTests.settings,
    _ body: (World, WireClient) async throws -> Void
  ) async throws {
    try await World.with(settings) { world, client in
      for name in ["root", "alice", "bob"] {
        let _: Etcdserverpb_AuthUserAddResponse = try await client.call(
          "Auth/UserAdd",
          make {
            $0.name = name
            $0.password = "pw-\(name)"
          } as Etcdserverpb_AuthUserAddRequest)
      }
      for role in ["root", "app"] {
        let _: Etcdserverpb_AuthRoleAddResponse = try await client.call(
          "Auth/RoleAdd", make { $0.name = role } as Etcdserverpb_AuthRoleAddRequest)
      }
      for (user, role) in [("root", "root"), ("alice", "app")] {
        let _: Etcdserverpb_AuthUserGrantRoleResponse = try await client.call(
          "Auth/UserGrantRole",
          make {
            $0.user = user
            $0.role = role
          } as Etcdserverpb_AuthUserGrantRoleRequest)
      }
      for (type, key, end) in [
        (Authpb_Permission.TypeEnum.read, "a", "c"), (.write, "b", ""),
      ] {
        let _: Etcdserverpb_AuthRoleGrantPermissionResponse = try await client.call(
          "Auth/RoleGrantPermission",
          make {
            $0.name = "app"
            $0.perm.permType = type
            $0.perm.key = Data(key.utf8)
            $0.perm.rangeEnd = Data(end.utf8)
          } as Etcdserverpb_AuthRoleGrantPermissionRequest)
      }
      for (id, key) in [(Int64(7), "m"), (8, "ab")] {
        let _: Etcdserverpb_LeaseGrantResponse = try await client.call(
          "Lease/LeaseGrant",
          make {
            $0.id = id
            $0.ttl = 60
          } as Etcdserverpb_LeaseGrantRequest)
        try await client.put(key, "1", lease: id)
      }
      for key in ["a", "b", "c"] { try await client.put(key, "1") }
      let _: Etcdserverpb_AuthEnableResponse = try await client.call(
        "Auth/AuthEnable", Etcdserverpb_AuthEnableRequest())
      try await body(world, client)
    }
  }

  static func make<Request: Message>(_ change: (inout Request) -> Void) -> Request {
    var request = Request()
    change(&request)
    return request
  }

  static func logIn(_ client: WireClient, _ name: String) async throws -> String {
    let answer: Etcdserverpb_AuthenticateResponse = try await client.call(
      "Auth/Authenticate",
      make {
        $0.name = name
        $0.password = "pw-\(name)"
      } as Etcdserverpb_AuthenticateRequest)
    return answer.token
  }

  /// One request of every kind, and what each caller gets: nobody, a forged token, bob, alice, root.
  ///
  /// `+` succeeds, `d` permission denied, `e` user name is empty, `t` invalid auth token, `-` another error
  /// that has nothing to do with rights.
  static let matrix: [(call: String, outcomes: String, request: any Message & Sendable)] = [
    ("KV/Range", "etd++", range("a")),
    ("KV/Range", "etd++", range("a", "c")),
    ("KV/Range", "etd++", range("a", "c", serializable: true)),
    ("KV/Range", "etdd+", range("a", "d")),
    ("KV/Range", "etdd+", range("c", serializable: true)),
    ("KV/Range", "etdd+", range("a", "\0")),
    ("KV/Range", "etdd+", range("\0", "\0")),
    ("KV/Put", "etdd+", put("a")),
    ("KV/Put", "etd++", put("b")),
    ("KV/Put", "etd++", put("b", previous: true)),
    ("KV/Put", "etdd+", put("b", lease: 7)),
    ("KV/DeleteRange", "etd++", delete("b")),
    ("KV/DeleteRange", "etdd+", delete("b", "b5")),
    ("KV/DeleteRange", "etdd+", delete("x", "\0")),
    ("KV/Txn", "etd++", txn(compare: "a", [.put("b")])),
    ("KV/Txn", "etdd+", txn(compare: "c", [.put("b")])),
    ("KV/Txn", "etdd+", txn(compare: "a", [.put("b")], else: [.put("a")])),
    ("KV/Txn", "etdd+", txn(compare: "a", [.txn([.txn([.range("c")])])])),
    ("KV/Txn", "etdd+", txn(compare: "a", [.txn([.txn([.put("a")])])])),
    ("KV/Txn", "etd++", txn(compare: "a", [.txn([.range("b")])])),
    ("KV/Txn", "etdd+", txn(compare: "c", [.range("b")])),
    ("KV/Compact", "et+--", make { $0.revision = 2 } as Etcdserverpb_CompactionRequest),
    ("Lease/LeaseGrant", "et+++", make { $0.ttl = 60 } as Etcdserverpb_LeaseGrantRequest),
    ("Lease/LeaseTimeToLive", "et+++", make { $0.id = 7 } as Etcdserverpb_LeaseTimeToLiveRequest),
    ("Lease/LeaseTimeToLive", "etdd+", keys(of: 7)),
    ("Lease/LeaseTimeToLive", "etd++", keys(of: 8)),
    ("Lease/LeaseLeases", "etdd+", Etcdserverpb_LeaseLeasesRequest()),
    ("Lease/LeaseRevoke", "etdd+", make { $0.id = 7 } as Etcdserverpb_LeaseRevokeRequest),
    ("Cluster/MemberList", "et+++", Etcdserverpb_MemberListRequest()),
    (
      "Cluster/MemberRemove", "etdd-",
      make { $0.id = 99 } as Etcdserverpb_MemberRemoveRequest
    ),
    ("Maintenance/Status", "et+++", Etcdserverpb_StatusRequest()),
    ("Maintenance/Alarm", "et+++", Etcdserverpb_AlarmRequest()),
    (
      "Maintenance/Alarm", "etdd+",
      make { $0.action = .deactivate; $0.alarm = .nospace } as Etcdserverpb_AlarmRequest
    ),
    ("Maintenance/Defragment", "etdd+", Etcdserverpb_DefragmentRequest()),
    ("Maintenance/Hash", "etdd+", Etcdserverpb_HashRequest()),
    ("Maintenance/HashKV", "etdd+", Etcdserverpb_HashKVRequest()),
    ("Auth/AuthStatus", "etdd+", Etcdserverpb_AuthStatusRequest()),
    ("Auth/UserList", "etdd+", Etcdserverpb_AuthUserListRequest()),
    ("Auth/RoleList", "etdd+", Etcdserverpb_AuthRoleListRequest()),
    ("Auth/UserGet", "etd++", make { $0.name = "alice" } as Etcdserverpb_AuthUserGetRequest),
    ("Auth/UserGet", "etdd+", make { $0.name = "root" } as Etcdserverpb_AuthUserGetRequest),
    ("Auth/RoleGet", "etd++", make { $0.role = "app" } as Etcdserverpb_AuthRoleGetRequest),
    (
      "Auth/UserChangePassword", "etdd-",
      make { $0.name = "nosuch" } as Etcdserverpb_AuthUserChangePasswordRequest
    ),
    (
      "Auth/UserAdd", "etdd-",
      make { $0.name = "alice"; $0.password = "x" } as Etcdserverpb_AuthUserAddRequest
    ),
    ("Auth/RoleAdd", "etdd-", make { $0.name = "app" } as Etcdserverpb_AuthRoleAddRequest),
    (
      "Auth/RoleDelete", "etdd-",
      make { $0.role = "root" } as Etcdserverpb_AuthRoleDeleteRequest
    ),
  ]

  @Test("Every call by every kind of caller")
  func permissionMatrix() async throws {
    try await Self.with { _, client in
      var tokens: [String?] = [nil, "forged.1"]
      for name in ["bob", "alice", "root"] { tokens.append(try await Self.logIn(client, name)) }
      for (call, expected, request) in Self.matrix {
        var outcomes = ""
        for token in tokens { outcomes += await outcome(client, call, request, token) }
        #expect(outcomes == expected, "\(call) \(request)")
      }
    }
  }

  private func outcome(
    _ client: WireClient, _ call: String, _ request: any Message & Sendable, _ token: String?
  ) async -> String {
    do {
      let metadata = token.map { [HeaderField("token", $0)] } ?? []
      let stream = try await client.open("/etcdserverpb." + call, metadata: metadata)
      try await stream.send(request)
      try await stream.endSending()
      for try await _ in stream.messages {}
      return "+"
    } catch let status as GRPCStatus {
      switch EtcdError(text: status.message) {
      case .permissionDenied: return "d"
      case .userEmpty: return "e"
      case .invalidAuthToken: return "t"
      default: return "-"
      }
    } catch { return "?" }
  }

  @Test("A watch is refused where its keys may not be read, and its stream stays open")
  func watches() async throws {
    try await Self.with { _, client in
      let token = try await Self.logIn(client, "alice")
      let denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
      var watch = try await WatchCall(client, metadata: [HeaderField("token", token)])
      for (key, end, isAllowed) in [
        ("a", "", true), ("a", "c", true), ("c", "", false), ("a", "\0", false),
        ("", "\0", false), ("b", "d", false),
      ] {
        try await watch.create(key, end)
        let answer = try await watch.next()
        #expect(answer.created && answer.canceled == !isAllowed, "\(key) \(end)")
        #expect(answer.cancelReason == (isAllowed ? "" : denied), "\(key) \(end)")
        #expect(isAllowed || answer.watchID == -1)
      }
      var anonymous = try await WatchCall(client)
      try await anonymous.create("a")
      #expect(
        try await anonymous.next().cancelReason
          == "rpc error: code = InvalidArgument desc = etcdserver: user name is empty")
      var forged = try await WatchCall(client, metadata: [HeaderField("token", "x.1")])
      try await forged.create("a")
      #expect(
        try await forged.next().cancelReason
          == "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token")
    }
  }

  @Test("A lease is renewed by who may write its keys")
  func keepAlive() async throws {
    try await Self.with { _, client in
      let message = Self.make { $0.id = 7 } as Etcdserverpb_LeaseKeepAliveRequest
      for (name, error) in [("root", nil), ("alice", EtcdError.permissionDenied)] {
        let token = try await Self.logIn(client, name)
        let stream = try await client.open(
          "/etcdserverpb.Lease/LeaseKeepAlive", metadata: [HeaderField("token", token)])
        try await stream.send(message)
        var answers = stream.messages.makeAsyncIterator()
        do {
          let answer = try await answers.next()
          #expect(error == nil && answer != nil, "\(name)")
        } catch let status as GRPCStatus {
          #expect(status.message == error?.text, "\(name)")
        }
        try await stream.cancel()
      }
    }
  }

  @Test("Passwords: wrong ones, none, changed ones; a change voids the user's tokens")
  func passwords() async throws {
    try await Self.with { _, client in
      let wrong = Self.make {
        $0.name = "alice"
        $0.password = "nonsense"
      } as Etcdserverpb_AuthenticateRequest
      await #expect(throws: GRPCStatus(.invalidArgument, EtcdError.authenticationFailed.text)) {
        let _: Etcdserverpb_AuthenticateResponse = try await client.call("Auth/Authenticate", wrong)
      }
      let alice = try await Self.logIn(client, "alice")
      let root = [HeaderField("token", try await Self.logIn(client, "root"))]
      #expect(await outcome(client, "KV/Range", Self.range("a"), alice) == "+")
      // A hash of "other", made by another bcrypt, that the client brings along.
      let copied = Self.make {
        $0.name = "alice"
        $0.hashedPassword = Data(
          "$2b$04$abcdefghijklmnopqrstuu0HtfOlPbTiymk5tcV.3TsFPDd3SYZqu".utf8
        ).base64EncodedString()
      } as Etcdserverpb_AuthUserChangePasswordRequest
      let call = try await client.open("/etcdserverpb.Auth/UserChangePassword", metadata: root)
      try await call.send(copied)
      try await call.endSending()
      for try await _ in call.messages {}
      #expect(await outcome(client, "KV/Range", Self.range("a"), alice) == "t")
      let answer: Etcdserverpb_AuthenticateResponse = try await client.call(
        "Auth/Authenticate",
        Self.make {
          $0.name = "alice"
          $0.password = "other"
        } as Etcdserverpb_AuthenticateRequest)
      #expect(await outcome(client, "KV/Range", Self.range("a"), answer.token) == "+")
    }
  }

  @Test("The authorization header serves as well as gRPC's token")
  func authorizationHeader() async throws {
    try await Self.with { _, client in
      let token = try await Self.logIn(client, "alice")
      let call = try await client.open(
        "/etcdserverpb.KV/Range", metadata: [HeaderField("authorization", token)])
      try await call.send(Self.range("a"))
      try await call.endSending()
      for try await message in call.messages {
        #expect(try Etcdserverpb_RangeResponse(serializedBytes: message).count == 1)
      }
    }
  }

  static let rsa = "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048"
  static let hasOpenSSL = FileManager.default.isExecutableFile(atPath: "/usr/bin/openssl")

  @Test(
    "Each way to sign tokens, with openssl's keys",
    .enabled(if: hasOpenSSL, "needs openssl"),
    arguments: [
      ("RS256", rsa), ("RS512", rsa), ("PS384", rsa),
      ("ES256", "ecparam -name prime256v1 -genkey -noout"),
      ("ES384", "ecparam -name secp384r1 -genkey -noout"),
      ("ES512", "ecparam -name secp521r1 -genkey -noout"), ("EdDSA", "genpkey -algorithm ed25519"),
    ])
  func signatures(method: String, key: String) throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "jwt-\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let process = Process()
    process.executableURL = URL(filePath: "/bin/sh")
    process.arguments = [
      "-c", "openssl \(key) -out private 2>/dev/null && openssl pkey -in private -pubout -out public",
    ]
    process.currentDirectoryURL = folder
    try process.run()
    process.waitUntilExit()
    let (secret, open) = (folder.appending(path: "private").path, folder.appending(path: "public").path)
    guard
      case .jwt(let signer) = try AuthTokenSettings(
        flag: "jwt,sign-method=\(method),priv-key=\(secret),pub-key=\(open),ttl=1m"),
      case .jwt(let verifier) = try AuthTokenSettings(
        flag: "jwt,sign-method=\(method),pub-key=\(open)")
    else { throw AuthTokenError("not signed ones") }
    let now = Date()
    let token = try #require(signer.sign(user: Array("alice".utf8), revision: 7, now: now))
    let verified = verifier.verify(token, now: now)
    #expect(verified?.caller == AuthCaller(user: Array("alice".utf8), revision: 7))
    #expect(verifier.verify(token, now: now + 61) == nil, "expired")
    var forged = token
    forged[token.count / 2] = forged[token.count / 2] == 65 ? 66 : 65
    #expect(verifier.verify(forged, now: now) == nil, "changed")
    #expect(verifier.sign(user: [], revision: 1, now: now) == nil, "no key to sign with")
  }

  @Test("Signed tokens: a forged signature, a stale revision")
  func signedTokens() async throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "jwt-\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let secret = folder.appending(path: "secret").path
    try Data("a secret of thirty-two bytes or so".utf8).write(to: URL(filePath: secret))
    var settings = Self.settings
    settings.authTokens = try AuthTokenSettings(
      flag: "jwt,sign-method=HS256,priv-key=\(secret),ttl=1m")
    try await Self.with(settings) { _, client in
      let token = try await Self.logIn(client, "alice")
      #expect(token.split(separator: ".").count == 3)
      #expect(await outcome(client, "KV/Range", Self.range("a"), token) == "+")
      #expect(await outcome(client, "KV/Put", Self.put("b"), token) == "+")
      #expect(await outcome(client, "KV/Put", Self.put("a"), token) == "d")
      let forged = token.dropLast(2) + (token.hasSuffix("AA") ? "BB" : "AA")
      #expect(await outcome(client, "KV/Range", Self.range("a"), String(forged)) == "t")
      // Any change of the users outdates it.
      let root = try await Self.logIn(client, "root")
      #expect(
        await outcome(
          client, "Auth/RoleAdd", Self.make { $0.name = "new" } as Etcdserverpb_AuthRoleAddRequest,
          root) == "+")
      #expect(await outcome(client, "KV/Range", Self.range("a"), token) == "-")
    }
    for flag in ["jwt", "jwt,sign-method=XX", "jwt,sign-method=HS256", "pam", "jwt,x"] {
      #expect(throws: AuthTokenError.self, "\(flag)") { try AuthTokenSettings(flag: flag) }
    }
  }
}

// MARK: - Requests

extension AuthTests {
  static func range(
    _ key: String, _ end: String = "", serializable: Bool = false
  ) -> Etcdserverpb_RangeRequest {
    make {
      $0.key = Data(key.utf8)
      $0.rangeEnd = Data(end.utf8)
      $0.serializable = serializable
    }
  }

  static func put(
    _ key: String, lease: Int64 = 0, previous: Bool = false
  ) -> Etcdserverpb_PutRequest {
    make {
      $0.key = Data(key.utf8)
      $0.lease = lease
      $0.prevKv = previous
    }
  }

  static func keys(of lease: Int64) -> Etcdserverpb_LeaseTimeToLiveRequest {
    make {
      $0.id = lease
      $0.keys = true
    }
  }

  static func delete(_ key: String, _ end: String = "") -> Etcdserverpb_DeleteRangeRequest {
    make {
      $0.key = Data(key.utf8)
      $0.rangeEnd = Data(end.utf8)
    }
  }

  indirect enum Operation {
    case put(String)
    case range(String)
    case txn([Operation])

    var request: Etcdserverpb_RequestOp {
      AuthTests.make {
        switch self {
        case .put(let key): $0.requestPut = AuthTests.put(key)
        case .range(let key): $0.requestRange = AuthTests.range(key)
        case .txn(let operations):
          // In the branch that isn't taken, which counts as well.
          $0.requestTxn.failure = operations.map(\.request)
        }
      }
    }
  }

  static func txn(
    compare: String, _ success: [Operation], else failure: [Operation] = []
  ) -> Etcdserverpb_TxnRequest {
    make {
      var predicate = Etcdserverpb_Compare()
      predicate.key = Data(compare.utf8)
      predicate.target = .version
      predicate.result = .greater
      $0.compare = [predicate]
      $0.success = success.map(\.request)
      $0.failure = failure.map(\.request)
    }
  }
}
