import Foundation
import FuzzTargets
import Primitives
import Testing

/// Each target on its seeds, on what a fuzzer once found (`Corpus`), and on a few thousand damaged inputs of a
/// fixed sequence.
@Suite struct CorpusTests {
  @Test("Every target takes its seeds and whatever is made of them", arguments: FuzzTarget.allCases)
  func damagedSeeds(target: FuzzTarget) {
    for seed in target.seeds { target.run(seed) }
    var random = RandomSource(seed: 0x6675_7A7A)
    for _ in 0..<(target == .log ? 500 : 1_500) { target.run(target.input(&random)) }
  }

  @Test("What a fuzzer found stays found", arguments: FuzzTarget.allCases)
  func corpus(target: FuzzTarget) throws {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("Corpus/\(target.rawValue)")
    let files =
      (try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)) ?? []
    for file in files { target.run(Array(try Data(contentsOf: file))) }
  }

  @Test("A seed does what it is for: the log's and the snapshot's are read whole")
  func seedsAreWellFormed() {
    for target in FuzzTarget.allCases {
      #expect(!target.seeds.isEmpty)
      #expect(target.seeds.allSatisfy { !$0.isEmpty })
    }
  }
}
