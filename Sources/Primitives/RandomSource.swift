/// A small, fast, seeded generator (SplitMix64): equal seeds give equal sequences on every machine.
///
/// For simulation, election time-outs and workloads; never for secrets.
/// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
public struct RandomSource: RandomNumberGenerator, Sendable {
  @usableFromInline var state: UInt64

  @inlinable public init(seed: UInt64) { state = seed }

  @inlinable public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }

  /// A number below `bound`, which must be positive.
  @inlinable public mutating func below(_ bound: UInt64) -> UInt64 {
    invariant(bound > 0, "a random number below zero was asked for")
    return next().multipliedFullWidth(by: bound).high
  }

  /// True once in `n` calls on average.
  @inlinable public mutating func oneIn(_ n: UInt64) -> Bool { below(n) == 0 }

  /// A generator of its own, so that one consumer's draws don't shift another's.
  @inlinable public mutating func split() -> RandomSource { RandomSource(seed: next()) }
}
