/// The requests whose bytes go into the log.
public enum LoggedRequest: Sendable {
  case put, deleteRange, txn, compaction, leaseGrant, leaseRevoke

  /// What has to go into the log for a request that came as `bytes`.
  ///
  /// Nearly always the bytes themselves: nil says so. A request with fields that this version doesn't
  /// know is written anew without them. A member of a later version might act on such a field where this
  /// one ignores it, and the members would then hold different data; etcd ignores them as well.
  ///
  /// - Throws: `WireError` if `bytes` are not such a request.
  /// - Complexity: O(bytes); allocates only if the request is rewritten.
  public func canonicalized(_ bytes: UnsafeRawBufferPointer) throws(WireError) -> [UInt8]? {
    switch self {
    case .put: try Self.rewritten(PutRequest.self, bytes)
    case .deleteRange: try Self.rewritten(DeleteRangeRequest.self, bytes)
    case .txn: try Self.rewritten(TxnRequest.self, bytes)
    case .compaction: try Self.rewritten(CompactionRequest.self, bytes)
    case .leaseGrant: try Self.rewritten(LeaseGrantRequest.self, bytes)
    case .leaseRevoke: try Self.rewritten(LeaseRevokeRequest.self, bytes)
    }
  }

  private static func rewritten<Message: WireMessage>(
    _ type: Message.Type, _ bytes: UnsafeRawBufferPointer
  ) throws(WireError) -> [UInt8]? {
    let message = try Message(bytes)
    return message.hasUnknownFields ? message.encoded() : nil
  }
}
