import TestKit
import Testing

/// What clients see, command by command. Each file of `Golden` starts with a new store.
@Suite struct GoldenTests {
  @Test(arguments: GoldenRunner().files)
  func transcript(file: String) throws {
    let world = ScriptWorld()
    try GoldenRunner().run(file) { try world.perform($0) }
  }
}
