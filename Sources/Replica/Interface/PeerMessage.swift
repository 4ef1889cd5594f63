import Primitives
import Raft

/// What members say to each other: Raft's own messages, and the requests that only a leader answers.
public enum PeerMessage: Sendable, Equatable {
  case raft(Message)
  /// Commands of a follower's clients, as one entry's payload, for the leader to propose.
  case forward(payload: [UInt8])
  /// The leader took none of the forwarded commands that start at this sequence.
  case forwardRefused(firstSequence: UInt64)
  /// Renew a lease, or (`renew` false) only tell its time.
  case leaseQuery(id: UInt64, lease: LeaseID, renew: Bool)
  case leaseAnswer(id: UInt64, time: LeaseTime?)
  /// A change of members or alarms for the leader to propose; `id` zero wants no answer.
  case clusterRequest(id: UInt64, command: [UInt8])
  case clusterAnswer(id: UInt64, ClusterAnswer)
  /// What is your state after this entry?
  case stateQuestion(index: LogIndex)
  case stateAnswer(index: LogIndex, revision: Revision, hash: UInt64)
  /// The majority's state after this entry has that hash; they last agreed with all at `lastAgreed`.
  case stateVerdict(index: LogIndex, hash: UInt64, lastAgreed: Revision)
  /// A piece of a snapshot file. `term` is the sender's, so that a deposed leader's pieces are dropped.
  case snapshotChunk(SnapshotChunk)
  /// The receiver has all bytes below `offset` of that snapshot, or (`accepted` false) can't use it.
  case snapshotProgress(index: LogIndex, offset: UInt64, accepted: Bool)
}

/// A piece of a snapshot file on its way to a member that fell behind the log.
public struct SnapshotChunk: Sendable, Equatable {
  public var term: Term
  /// The last log index that the snapshot holds, and its term.
  public var index: LogIndex
  public var snapshotTerm: Term
  public var offset: UInt64
  /// The size of the whole file.
  public var fileBytes: UInt64
  /// The file's own checksum: together with the size it tells one file from another.
  public var fileChecksum: UInt32
  public var bytes: [UInt8]
}

/// Carries messages to the other members. Declared here and implemented above, in `PeerTransport`.
///
/// Messages may be lost, never altered or reordered on one connection; Raft copes with the rest.
public protocol PeerSender: AnyObject, Sendable {
  /// Queues `messages`, never blocking. Called on the writer's thread.
  func send(_ messages: [(to: NodeID, message: PeerMessage)])
  /// The members are these from now on. Called on the writer's thread; never blocks.
  func update(_ roster: ClusterRoster)
  /// What went to and came from each other member. Called on any thread.
  var traffic: [PeerTraffic] { get }
}

extension PeerSender {
  /// Nothing was counted.
  public var traffic: [PeerTraffic] { [] }
}

/// Takes what arrives from the other members. Implemented by `ReplicaService`.
public protocol PeerReceiver: AnyObject, Sendable {
  /// Messages of one socket read, in order. Called on a transport thread; never blocks.
  func receive(_ messages: [PeerMessage], from peer: NodeID)
  /// The connection to `peer` was reset: its process has probably died.
  func connectionLost(to peer: NodeID)
  /// A member says that this one was removed from the cluster.
  func removedFromCluster()
}

/// Why bytes from a peer are no message.
public struct PeerMessageError: Error, Sendable, CustomStringConvertible {
  public var description: String
  public init(description: String) { self.description = description }
}

extension PeerMessage {
  private enum Kind: UInt8 {
    case raft = 1
    case forward = 2
    case forwardRefused = 3
    case leaseQuery = 4
    case leaseAnswer = 5
    case snapshotChunk = 6
    case snapshotProgress = 7
    case clusterRequest = 8
    case clusterAnswer = 9
    case stateQuestion = 10
    case stateAnswer = 11
    case stateVerdict = 12
  }

  /// Appends the message in the form that `Docs/Formats.md` gives under "Between members".
  public func encode(into bytes: inout [UInt8]) {
    switch self {
    case .raft(let message):
      bytes.append(Kind.raft.rawValue)
      message.encode(into: &bytes)
    case .forward(let payload):
      bytes.append(Kind.forward.rawValue)
      bytes.append(contentsOf: payload)
    case .forwardRefused(let sequence):
      bytes.append(Kind.forwardRefused.rawValue)
      bytes.append(littleEndian: sequence)
    case .leaseQuery(let id, let lease, let renew):
      bytes.append(Kind.leaseQuery.rawValue)
      bytes.append(littleEndian: id)
      bytes.append(littleEndian: lease.rawValue)
      bytes.append(renew ? 1 : 0)
    case .leaseAnswer(let id, let time):
      bytes.append(Kind.leaseAnswer.rawValue)
      bytes.append(littleEndian: id)
      bytes.append(time == nil ? 0 : 1)
      bytes.append(littleEndian: time?.granted ?? 0)
      bytes.append(littleEndian: time?.remaining ?? 0)
    case .clusterRequest(let id, let command):
      bytes.append(Kind.clusterRequest.rawValue)
      bytes.append(littleEndian: id)
      bytes.append(contentsOf: command)
    case .clusterAnswer(let id, let answer):
      bytes.append(Kind.clusterAnswer.rawValue)
      bytes.append(littleEndian: id)
      switch answer {
      case .accepted(let index, let term):
        bytes.append(0)
        bytes.append(littleEndian: index.rawValue)
        bytes.append(littleEndian: term.rawValue)
      case .refused(let error): bytes.append(error.rawValue + 1)
      }
    case .stateQuestion(let index):
      bytes.append(Kind.stateQuestion.rawValue)
      bytes.append(littleEndian: index.rawValue)
    case .stateAnswer(let index, let revision, let hash):
      bytes.append(Kind.stateAnswer.rawValue)
      bytes.append(littleEndian: index.rawValue)
      bytes.append(littleEndian: revision.rawValue)
      bytes.append(littleEndian: hash)
    case .stateVerdict(let index, let hash, let lastAgreed):
      bytes.append(Kind.stateVerdict.rawValue)
      bytes.append(littleEndian: index.rawValue)
      bytes.append(littleEndian: hash)
      bytes.append(littleEndian: lastAgreed.rawValue)
    case .snapshotChunk(let chunk):
      bytes.append(Kind.snapshotChunk.rawValue)
      bytes.append(littleEndian: chunk.term.rawValue)
      bytes.append(littleEndian: chunk.index.rawValue)
      bytes.append(littleEndian: chunk.snapshotTerm.rawValue)
      bytes.append(littleEndian: chunk.offset)
      bytes.append(littleEndian: chunk.fileBytes)
      bytes.append(littleEndian: chunk.fileChecksum)
      bytes.append(contentsOf: chunk.bytes)
    case .snapshotProgress(let index, let offset, let accepted):
      bytes.append(Kind.snapshotProgress.rawValue)
      bytes.append(littleEndian: index.rawValue)
      bytes.append(littleEndian: offset)
      bytes.append(accepted ? 1 : 0)
    }
  }

  /// Reads one message that fills `bytes` exactly. Throws on anything else; never traps.
  public static func decode(_ bytes: UnsafeRawBufferPointer) throws -> PeerMessage {
    var reader = ByteReader(bytes)
    let kindByte: UInt8 = try reader.read()
    guard let kind = Kind(rawValue: kindByte) else {
      throw PeerMessageError(description: "unknown kind \(kindByte) of peer message")
    }
    let message: PeerMessage
    switch kind {
    case .raft:
      return .raft(try Message.decode(try reader.readBytes(reader.remaining)))
    case .forward:
      return .forward(payload: Array(try reader.readBytes(reader.remaining)))
    case .forwardRefused:
      message = .forwardRefused(firstSequence: try reader.read())
    case .leaseQuery:
      message = .leaseQuery(
        id: try reader.read(), lease: LeaseID(try reader.read()),
        renew: try reader.read(UInt8.self) != 0)
    case .leaseAnswer:
      let id: UInt64 = try reader.read()
      let exists = try reader.read(UInt8.self) != 0
      let time = LeaseTime(granted: try reader.read(), remaining: try reader.read())
      message = .leaseAnswer(id: id, time: exists ? time : nil)
    case .clusterRequest:
      return .clusterRequest(
        id: try reader.read(), command: Array(try reader.readBytes(reader.remaining)))
    case .clusterAnswer:
      let id: UInt64 = try reader.read()
      let code: UInt8 = try reader.read()
      if code == 0 {
        message = .clusterAnswer(
          id: id,
          .accepted(index: LogIndex(try reader.read()), term: Term(try reader.read())))
      } else if let error = ReplicaError(rawValue: code - 1) {
        message = .clusterAnswer(id: id, .refused(error))
      } else {
        throw PeerMessageError(description: "unknown answer \(code) to a change of the cluster")
      }
    case .stateQuestion: message = .stateQuestion(index: LogIndex(try reader.read()))
    case .stateAnswer:
      message = .stateAnswer(
        index: LogIndex(try reader.read()), revision: Revision(try reader.read()),
        hash: try reader.read())
    case .stateVerdict:
      message = .stateVerdict(
        index: LogIndex(try reader.read()), hash: try reader.read(),
        lastAgreed: Revision(try reader.read()))
    case .snapshotChunk:
      return .snapshotChunk(
        SnapshotChunk(
          term: Term(try reader.read()), index: LogIndex(try reader.read()),
          snapshotTerm: Term(try reader.read()), offset: try reader.read(),
          fileBytes: try reader.read(), fileChecksum: try reader.read(),
          bytes: Array(try reader.readBytes(reader.remaining))))
    case .snapshotProgress:
      message = .snapshotProgress(
        index: LogIndex(try reader.read()), offset: try reader.read(),
        accepted: try reader.read(UInt8.self) != 0)
    }
    guard reader.isAtEnd else {
      throw PeerMessageError(
        description: "\(reader.remaining) bytes too many after a peer message of kind \(kindByte)")
    }
    return message
  }
}
