import CLinux
import Glibc

/// What an attached connection carries: `kind (1 byte) | length (4 bytes, big-endian) | payload`.
///
/// | kind | from | payload |
/// |---|---|---|
/// | `input` | agent | bytes for the container's standard input |
/// | `inputEnd` | agent | none |
/// | `resize` | agent | columns and rows, 2 bytes each |
/// | `output`, `error` | shim | bytes that the container printed |
/// | `end` | shim | none: the container has ended |
enum AttachFrame {
  static let input: UInt8 = 0
  static let inputEnd: UInt8 = 1
  static let resize: UInt8 = 2
  static let output: UInt8 = 3
  static let error: UInt8 = 4
  static let end: UInt8 = 5

  static let headerBytes = 5
  /// The payload of one frame.
  static let limit = 64 << 10

  static func make(_ kind: UInt8, _ payload: some Collection<UInt8>) -> [UInt8] {
    let count = UInt32(payload.count)
    return [kind] + (0..<4).map { UInt8(truncatingIfNeeded: count >> (24 - 8 * $0)) } + payload
  }

  /// The payload's length, from a whole header.
  static func length(_ bytes: some Collection<UInt8>) -> Int {
    bytes.dropFirst().prefix(4).reduce(0) { $0 << 8 | Int($1) }
  }
}

/// A connection's share of a container's streams.
struct Attachment {
  let container: ContainerID
  let hasInput: Bool
}

extension Shim {
  /// Input for a container that it hasn't read; with more, its writers wait.
  static let inputBytes = 256 << 10

  mutating func attach(_ id: ContainerID, _ descriptor: Int32, input: Bool) throws {
    guard containers[id] != nil else {
      throw RuntimeError(.notFound, "container \(id) is not running")
    }
    connections[descriptor]?.attachment = Attachment(container: id, hasInput: input)
  }

  /// Whether a connection may be read now: not while its container is behind with its input.
  func mayRead(_ connection: Connection) -> Bool {
    guard let attachment = connection.attachment, let container = containers[attachment.container]
    else { return true }
    return container.unreadInput.count < Self.inputBytes
  }

  mutating func takeFrames(_ descriptor: Int32) {
    while let connection = connections[descriptor], let attachment = connection.attachment,
      connection.input.count >= AttachFrame.headerBytes
    {
      let length = AttachFrame.length(connection.input)
      guard length <= AttachFrame.limit else { return drop(descriptor) }
      let end = AttachFrame.headerBytes + length
      guard connection.input.count >= end else { return }
      let payload = connection.input[AttachFrame.headerBytes..<end]
      let id = attachment.container
      switch connection.input[0] {
      case AttachFrame.input where attachment.hasInput:
        if containers[id]?.input ?? -1 >= 0 { containers[id]?.unreadInput += payload }
      case AttachFrame.inputEnd where attachment.hasInput: endInput(id)
      case AttachFrame.resize where length == 4:
        let numbers = payload.map(UInt16.init)
        if let terminal = containers[id]?.terminal, terminal >= 0 {
          _ = clinux_set_window_size(
            terminal, numbers[0] << 8 | numbers[1], numbers[2] << 8 | numbers[3])
        }
      default: break
      }
      connections[descriptor]?.input.removeSubrange(..<end)
      writeInput(id)
    }
  }

  /// Writes what is waiting for a container's standard input, as far as it takes it.
  mutating func writeInput(_ id: ContainerID) {
    guard let container = containers[id], container.input >= 0 else { return }
    if !container.unreadInput.isEmpty {
      let count = write(container.input, container.unreadInput, container.unreadInput.count)
      if count > 0 {
        containers[id]?.unreadInput.removeFirst(count)
      } else if count < 0, errno != EAGAIN, errno != EINTR {
        // It has closed its end.
        closeInput(id)
        return
      }
    }
    if containers[id]?.unreadInput.isEmpty == true, containers[id]?.closesInput == true {
      closeInput(id)
    }
  }

  /// An attached client's input is over. That is the container's affair only if it was to be so.
  private mutating func endInput(_ id: ContainerID) {
    guard let container = containers[id], container.record.closesInputOnce,
      container.terminal < 0
    else { return }
    containers[id]?.closesInput = true
    writeInput(id)
  }

  private mutating func closeInput(_ id: ContainerID) {
    if let input = containers[id]?.input, input >= 0 { close(input) }
    containers[id]?.input = -1
    containers[id]?.unreadInput = []
  }

  /// A client has gone.
  mutating func detached(_ attachment: Attachment) {
    if attachment.hasInput { endInput(attachment.container) }
  }

  /// Hands what a container printed to those that are attached to it.
  mutating func share(_ id: ContainerID, _ kind: UInt8, _ bytes: UnsafeRawBufferPointer) {
    for (descriptor, connection) in connections where connection.attachment?.container == id {
      send(AttachFrame.make(kind, bytes), descriptor)
    }
  }

  /// Tells those that are attached that the container has ended.
  mutating func endAttachments(_ id: ContainerID) {
    for (descriptor, connection) in connections where connection.attachment?.container == id {
      connections[descriptor]?.isClosing = true
      send(AttachFrame.make(AttachFrame.end, []), descriptor)
    }
  }
}
