import Persistence

/// A disk that is never waited for: `--unsafe-no-fsync`.
struct UnsyncedFileSystem: FileSystem {
  let base: any FileSystem

  func perform(_ operation: FileOperation) throws(PersistenceError) -> FileAnswer {
    switch operation {
    case .syncData, .syncDirectory: return .done
    default: return try base.perform(operation)
    }
  }
}
