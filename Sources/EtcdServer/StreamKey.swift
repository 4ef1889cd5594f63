import HTTP2

/// A stream of one of the loop's connections.
struct StreamKey: Hashable {
  var connection: ObjectIdentifier
  var stream: StreamID

  init(_ connection: GRPCServerConnection, _ stream: StreamID) {
    self.connection = ObjectIdentifier(connection)
    self.stream = stream
  }
}
