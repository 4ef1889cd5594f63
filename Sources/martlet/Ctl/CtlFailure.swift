import EtcdClient
import HTTP2

/// Why a command of `martlet ctl` failed, with the exit status that etcdctl has for it.
struct CtlFailure: Error, CustomStringConvertible {
  enum Status: Int32 {
    case error = 1
    case badConnection = 2
    case invalidInput = 3
    case badFeature = 4
    case interrupted = 5
    case inputOutput = 6
    case badArguments = 128
  }

  var status: Int32
  var description: String

  init(_ status: Status, _ description: String) {
    self.status = status.rawValue
    self.description = description
  }

  /// What a command that was run ended with.
  init(status: Int32, _ description: String) {
    self.status = status
    self.description = description
  }

  /// A call that failed, in the words of etcd's client.
  init(_ error: StoreError, status: Status = .error) {
    self.init(status, CtlFailure.text(of: error))
  }

  static func arguments(_ description: String) -> CtlFailure {
    CtlFailure(.badArguments, description)
  }

  static func text(of error: StoreError) -> String {
    guard let status = error.status else {
      // What came of it locally is told apart in the log line alone.
      return error.code == .cancelled ? "context canceled" : "context deadline exceeded"
    }
    let isKnown = status.message.hasPrefix("etcdserver: ")
    return isKnown
      ? status.message : "rpc error: code = \(name(of: status.code)) desc = \(status.message)"
  }

  private static func name(of code: GRPCStatus.Code) -> String {
    switch code {
    case .ok: "OK"
    case .cancelled: "Canceled"
    default:
      "\(code)".prefix(1).uppercased() + "\(code)".dropFirst()
    }
  }
}

/// Runs a call, and fails in the words of etcd's client.
func calling<Answer>(
  status: CtlFailure.Status = .error, isolation: isolated (any Actor)? = #isolation,
  _ body: () async throws -> Answer
) async throws -> Answer {
  do { return try await body() } catch let error as StoreError {
    if error.status == nil { CtlOutput.log(error.message) }
    throw CtlFailure(error, status: status)
  }
}
