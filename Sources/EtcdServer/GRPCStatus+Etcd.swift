import EtcdWire
import HTTP2
import MVCC
import Replica

extension GRPCStatus {
  /// The status and text with which etcd answers.
  init(_ error: EtcdError) {
    self.init(Code(rawValue: Int(error.status.rawValue)) ?? .unknown, error.text)
  }

  init(_ error: ApplyError) {
    switch error {
    case .emptyKey: self.init(EtcdError.emptyKey)
    case .keyNotFound: self.init(EtcdError.keyNotFound)
    case .compacted: self.init(EtcdError.compacted)
    case .futureRevision: self.init(EtcdError.futureRevision)
    case .leaseNotFound: self.init(EtcdError.leaseNotFound)
    case .leaseExists: self.init(EtcdError.leaseExists)
    case .leaseTooLong: self.init(EtcdError.leaseTimeToLiveTooLarge)
    case .malformedRequest: self.init(.internal, "etcdserver: malformed request")
    case .unsupportedCommand: self.init(EtcdError.notCapable)
    case .rootUserNotExist: self.init(EtcdError.rootUserNotExist)
    case .rootRoleNotExist: self.init(EtcdError.rootRoleNotExist)
    case .userAlreadyExists: self.init(EtcdError.userAlreadyExists)
    case .userEmpty: self.init(EtcdError.userEmpty)
    case .userNotFound: self.init(EtcdError.userNotFound)
    case .roleAlreadyExists: self.init(EtcdError.roleAlreadyExists)
    case .roleNotFound: self.init(EtcdError.roleNotFound)
    case .roleEmpty: self.init(EtcdError.roleEmpty)
    case .authenticationFailed: self.init(EtcdError.authenticationFailed)
    case .permissionDenied: self.init(EtcdError.permissionDenied)
    case .roleNotGranted: self.init(EtcdError.roleNotGranted)
    case .permissionNotGranted: self.init(EtcdError.permissionNotGranted)
    case .authNotEnabled: self.init(EtcdError.authNotEnabled)
    case .invalidAuthManagement: self.init(EtcdError.invalidAuthManagement)
    case .oldAuthRevision: self.init(EtcdError.oldAuthRevision)
    case .noSpace: self.init(EtcdError.noSpace)
    case .corrupt: self.init(EtcdError.corrupt)
    }
  }

  init(_ error: ReplicaError) {
    switch error {
    case .noLeader: self.init(EtcdError.noLeader)
    case .timedOut: self.init(EtcdError.timeout)
    case .timedOutLeaderFailed: self.init(EtcdError.timeoutDueToLeaderFailure)
    case .tooManyRequests: self.init(EtcdError.tooManyRequests)
    case .stopped: self.init(EtcdError.stopped)
    case .leaseNotFound: self.init(EtcdError.leaseNotFound)
    case .notLeader: self.init(EtcdError.notLeader)
    case .memberExists: self.init(EtcdError.memberExists)
    case .memberNotFound: self.init(EtcdError.memberNotFound)
    case .peerURLExists: self.init(EtcdError.peerURLExists)
    case .notEnoughStartedMembers: self.init(EtcdError.notEnoughStartedMembers)
    case .unhealthy: self.init(EtcdError.unhealthy)
    case .tooManyLearners: self.init(EtcdError.tooManyLearners)
    case .memberNotLearner: self.init(EtcdError.memberNotLearner)
    case .diskFailed: self.init(.internal, "the snapshot could not be written")
    case .learnerNotReady: self.init(EtcdError.learnerNotReady)
    }
  }

  /// What gRPC servers answer to a request that is no protobuf message.
  init(_ error: WireError) {
    self.init(.internal, "grpc: error unmarshalling request: \(error)")
  }
}
