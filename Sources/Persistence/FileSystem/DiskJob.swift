/// Names one `DiskJob`; later jobs of one owner have larger tickets.
public struct DiskTicket: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible
{
  public var rawValue: UInt64
  public init(rawValue: UInt64) { self.rawValue = rawValue }
  public static func < (left: DiskTicket, right: DiskTicket) -> Bool {
    left.rawValue < right.rawValue
  }
  public var description: String { "job \(rawValue)" }
}

/// Work for a disk thread, as data: the operations to carry out in order.
public struct DiskJob: Sendable {
  /// Comes back in the result.
  public let ticket: DiskTicket
  /// In order; the first that fails ends the job.
  public let operations: [FileOperation]

  public init(ticket: DiskTicket, operations: [FileOperation]) {
    self.ticket = ticket
    self.operations = operations
  }

  /// Carries the job out on the calling thread, which blocks meanwhile.
  public func perform(on fileSystem: some FileSystem) -> DiskResult {
    var answers: [FileAnswer] = []
    answers.reserveCapacity(operations.count)
    for operation in operations {
      do throws(PersistenceError) {
        answers.append(try fileSystem.perform(operation))
      } catch {
        return DiskResult(ticket: ticket, outcome: .failure(error))
      }
    }
    return DiskResult(ticket: ticket, outcome: .success(answers))
  }
}

/// How a `DiskJob` ended.
public struct DiskResult: Sendable {
  public let ticket: DiskTicket
  /// One answer for each operation, or the failure that ended the job.
  public let outcome: Result<[FileAnswer], PersistenceError>

  public init(ticket: DiskTicket, outcome: Result<[FileAnswer], PersistenceError>) {
    self.ticket = ticket
    self.outcome = outcome
  }
}
