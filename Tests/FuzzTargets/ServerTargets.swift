import EtcdProto
import EtcdServer
import EtcdWire
import Foundation
import Primitives
import SwiftProtobuf

// MARK: The JSON gateway

/// The first byte chooses a path; the rest is the body of a request there, and protobuf for its answer.
///
/// What the gateway makes of JSON goes to the services, so it must be what their readers take and write alike.
func fuzzGateway(_ bytes: [UInt8]) {
  guard let first = bytes.first else { return }
  let paths = GatewayRoute.paths
  let body = Array(bytes.dropFirst())
  guard let route = GatewayRoute.find("/v3/" + paths[Int(first) % paths.count]) else {
    invariantFailure("a path of the table isn't found")
  }
  if let values = JSONValues.split(body) {
    invariant(
      values.allSatisfy { body.indices.contains($0.lowerBound) && $0.upperBound <= body.count },
      "a JSON value beyond its body")
    for value in values.prefix(4) {
      if let message = try? route.request(Data(body[value])) { fuzzRequests(message) }
    }
  }
  if let json = try? route.response(body) {
    invariant(
      (try? JSONSerialization.jsonObject(with: Data(json), options: [.fragmentsAllowed])) != nil,
      "an answer that is no JSON")
  }
}

func gatewaySeeds() -> [[UInt8]] {
  let paths = GatewayRoute.paths
  func seed(_ path: Substring, _ json: String) -> [UInt8] {
    [UInt8(truncatingIfNeeded: paths.firstIndex(of: path) ?? 0)] + Array(json.utf8)
  }
  return [
    seed("kv/range", #"{"key":"Zm9v","range_end":"AA==","limit":"10","sort_order":"DESCEND","serializable":true}"#),
    seed("kv/put", #"{"key":"Zm9v","value":"YmFy","lease":"-1","prev_kv":true,"other":[1,{"a":null}]}"#),
    seed(
      "kv/txn",
      #"{"compare":[{"result":"EQUAL","target":"VALUE","key":"YQ==","value":"MQ=="}],"#
        + #""success":[{"requestPut":{"key":"YQ==","value":"Mg=="}}],"failure":[{"request_txn":{"success":[]}}]}"#),
    seed("watch", #"{"create_request":{"key":"YQ==","filters":["NOPUT"],"start_revision":"3"}}"#),
    seed("lease/grant", #"{"TTL":1e2,"ID":"0x1"}"#), seed("maintenance/alarm", #"{"action":"ACTIVATE"}"#),
    seed("lease/keepalive", #"{"ID":1}{"ID":"2"} {"ID":"3\u0000"}"#),
  ]
}

// MARK: The configuration file

/// A file either makes flags, the same each time, or is refused with a reason.
func fuzzConfiguration(_ bytes: [UInt8]) {
  let text = String(decoding: bytes, as: UTF8.self)
  func read() -> [String]? { try? StoreConfigFile.flags(of: text, path: "fuzz.yaml") }
  guard let flags = read() else { return }
  invariant(flags == read(), "a file reads differently the second time")
  invariant(flags.allSatisfy { $0.hasPrefix("--") }, "a file made something else than flags")
}

func configurationSeeds() -> [[UInt8]] {
  [
    "name: a\ndata-dir: /tmp/a\nsnapshot-count: 100\nlisten-client-urls: http://127.0.0.1:2379\n",
    "client-transport-security:\n  cert-file: a.crt\n  client-cert-auth: true\n"
      + "peer-transport-security: {crl-file: b}\n",
    "a: &x [1, 2.5, ~, 0x1f]\nb: *x\n? c\n: |\n  text\n   more\n--- \n!!str d: \"\\u00e9\"\n",
  ].map { Array($0.utf8) }
}

/// What `StoreConfigFile`, whose source is shared with the program, throws there.
struct UsageFailure: Error { init(_ description: String) {} }
struct StartFailure: Error { init(_ description: String) {} }

// MARK: Two readers of one message

/// Where the hand-written reader and the generated one both take a message, they must understand the same.
func fuzzAgreement(_ bytes: [UInt8]) {
  var options = BinaryDecodingOptions()
  options.discardUnknownFields = true
  func agree<Wire: WireMessage, Proto: Message & Equatable>(_: Wire.Type, _: Proto.Type) {
    guard let written = bytes.withUnsafeBytes({ (try? Wire($0))?.encoded() }),
      let expected = try? Proto(serializedBytes: bytes, options: options)
    else { return }
    invariant(
      (try? Proto(serializedBytes: written, options: options)) == expected,
      "\(Wire.self) and \(Proto.self) understand the same bytes differently")
  }
  agree(EtcdWire.RangeRequest.self, Etcdserverpb_RangeRequest.self)
  agree(EtcdWire.PutRequest.self, Etcdserverpb_PutRequest.self)
  agree(EtcdWire.DeleteRangeRequest.self, Etcdserverpb_DeleteRangeRequest.self)
  agree(EtcdWire.TxnRequest.self, Etcdserverpb_TxnRequest.self)
  agree(EtcdWire.CompactionRequest.self, Etcdserverpb_CompactionRequest.self)
  agree(EtcdWire.LeaseGrantRequest.self, Etcdserverpb_LeaseGrantRequest.self)
  agree(EtcdWire.LeaseRevokeRequest.self, Etcdserverpb_LeaseRevokeRequest.self)
  agree(EtcdWire.LeaseKeepAliveRequest.self, Etcdserverpb_LeaseKeepAliveRequest.self)
  agree(EtcdWire.WatchRequest.self, Etcdserverpb_WatchRequest.self)
}
