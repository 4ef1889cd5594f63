// swift-tools-version: 6.2
import PackageDescription

// The layers, lowest first. Imports point down only; `Tests/ArchitectureTests` holds every source
// file to the table that `Docs/Architecture.md` explains.

let strict: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  // Planted bugs prove that the checkers can fail; they exist in debug builds only.
  .define("PLANTED_BUGS", .when(configuration: .debug)),
]

// On the write path a quarter of a request went to exclusivity checks and to unspecialised generics
// across module borders (`Docs/Decisions/0001-compiler-flags.md`).
let fast: [SwiftSetting] =
  strict + [
    .unsafeFlags(
      ["-enforce-exclusivity=unchecked", "-cross-module-optimization"],
      .when(configuration: .release))
  ]

// `struct stat` belongs to the module that the compiler happens to load first; beside Foundation that may be
// CoreFoundation, which nobody can import.
let strictBesideFoundation: [SwiftSetting] = [
  .swiftLanguageMode(.v6), .treatAllWarnings(as: .error), .enableUpcomingFeature("ExistentialAny"),
]

let nioCore: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let nioHTTP1: Target.Dependency = .product(name: "NIOHTTP1", package: "swift-nio")
let nioWebSocket: Target.Dependency = .product(name: "NIOWebSocket", package: "swift-nio")
let nioEmbedded: Target.Dependency = .product(name: "NIOEmbedded", package: "swift-nio")
let nioTLS: Target.Dependency = .product(name: "NIOTLS", package: "swift-nio")
let nioSSL: Target.Dependency = .product(name: "NIOSSL", package: "swift-nio-ssl")
let protobuf: Target.Dependency = .product(name: "SwiftProtobuf", package: "swift-protobuf")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let arguments: Target.Dependency = .product(
  name: "ArgumentParser", package: "swift-argument-parser")
let certificates: Target.Dependency = .product(name: "X509", package: "swift-certificates")
let asn1: Target.Dependency = .product(name: "SwiftASN1", package: "swift-asn1")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let cryptoExtras: Target.Dependency = .product(name: "_CryptoExtras", package: "swift-crypto")
let yams: Target.Dependency = .product(name: "Yams", package: "Yams")
let histogram: Target.Dependency = .product(name: "Histogram", package: "hdrhistogram-swift")

let package = Package(
  name: "martlet",
  platforms: [.macOS(.v15)],
  products: [
    .executable(name: "martlet", targets: ["martlet"]),
    .executable(name: "martlet-sim", targets: ["martlet-sim"]),
    .executable(name: "martlet-bench", targets: ["martlet-bench"]),
    .executable(name: "martlet-counts", targets: ["martlet-counts"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
    .package(url: "https://github.com/apple/swift-asn1", exact: "1.7.4"),
    .package(url: "https://github.com/apple/swift-certificates", exact: "1.21.1"),
    .package(url: "https://github.com/apple/swift-crypto", exact: "4.5.2"),
    .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
    .package(url: "https://github.com/apple/swift-nio", exact: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-ssl", exact: "2.37.6"),
    .package(url: "https://github.com/apple/swift-protobuf", exact: "1.39.0"),
    .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", exact: "0.2.0"),
    .package(url: "https://github.com/jpsim/Yams", exact: "6.2.2"),
  ],
  targets: [
    // MARK: L1
    .target(name: "CChecksum"),
    .target(name: "Primitives", dependencies: ["CChecksum"], swiftSettings: fast),
    .target(name: "EtcdWire", dependencies: ["Primitives"], swiftSettings: fast),

    // MARK: L2, pure: no I/O, no clock, no async, no Foundation, no NIO
    .target(name: "Raft", dependencies: ["Primitives"], swiftSettings: fast),
    .target(name: "MVCC", dependencies: ["Primitives", "EtcdWire"], swiftSettings: fast),

    // MARK: L3
    .target(name: "Bolt", dependencies: ["Primitives"], swiftSettings: strict),
    .target(
      name: "EtcdImport", dependencies: ["Primitives", "EtcdWire", "MVCC", "Bolt"],
      swiftSettings: strict),
    .systemLibrary(
      name: "CLZ4", path: "Sources/CLZ4", pkgConfig: "liblz4", providers: [.apt(["liblz4-dev"])]),
    .target(
      name: "Persistence", dependencies: ["Primitives", "Raft", "CLZ4"], swiftSettings: fast),
    .target(
      name: "HTTP2", dependencies: ["Primitives", nioCore, nioPosix, nioSSL], swiftSettings: fast),
    .target(
      name: "HTTP1Client",
      dependencies: [nioCore, nioPosix, nioHTTP1, nioSSL], swiftSettings: fast),
    .target(name: "EtcdProto", dependencies: [protobuf], exclude: ["Protos"]),
    .target(name: "KubeAPI", dependencies: ["Primitives"], swiftSettings: fast),

    // MARK: L4
    .target(
      name: "Replica", dependencies: ["Primitives", "EtcdWire", "Raft", "MVCC", "Persistence"],
      swiftSettings: fast),
    .target(
      name: "EtcdClient",
      dependencies: [
        "Primitives", "EtcdWire", "EtcdProto", "HTTP2", nioCore, nioPosix, nioSSL, protobuf,
      ],
      swiftSettings: fast),
    .target(
      name: "HTTPServer",
      dependencies: [
        "Primitives", "HTTP2", nioCore, nioPosix, nioHTTP1, nioWebSocket, nioTLS, nioSSL, logging,
      ],
      swiftSettings: fast),
    .target(
      name: "KubeClient",
      dependencies: [
        "Primitives", "KubeAPI", "HTTP1Client", nioCore, nioPosix, nioSSL, logging, yams,
      ],
      swiftSettings: fast),

    .target(name: "CLinux"),
    .target(
      name: "Certification", dependencies: [certificates, asn1, crypto], swiftSettings: strict),
    .target(name: "KubeYAML", dependencies: ["KubeAPI", yams], swiftSettings: strict),
    .target(name: "Netfilter", dependencies: ["CLinux"], swiftSettings: strict),

    // MARK: L5, the store's shell and the orchestrator
    .target(
      name: "PeerTransport",
      dependencies: ["Primitives", "Raft", "Replica", nioCore, nioPosix, logging],
      swiftSettings: fast),
    .target(
      name: "TransportSecurity",
      dependencies: [nioCore, nioTLS, nioSSL, certificates, asn1, crypto, logging],
      swiftSettings: strict),
    .systemLibrary(name: "CCrypt", path: "Sources/CCrypt", providers: [.apt(["libcrypt-dev"])]),
    .target(
      name: "EtcdServer",
      dependencies: [
        "Primitives", "EtcdWire", "EtcdProto", "MVCC", "Raft", "Replica", "HTTP2", "CCrypt",
        nioCore, nioPosix, nioHTTP1, crypto, cryptoExtras, logging,
      ],
      swiftSettings: fast),
    .target(
      name: "APIServer",
      dependencies: [
        "Primitives", "KubeAPI", "KubeYAML", "Certification", "EtcdClient", "EtcdProto",
        "HTTPServer", "HTTP2", certificates, asn1, crypto, nioCore, nioPosix, nioHTTP1, nioSSL, nioTLS, logging,
      ],
      swiftSettings: fast),
    .target(
      name: "Scheduler", dependencies: ["Primitives", "KubeAPI", "KubeClient", logging],
      swiftSettings: fast),
    .target(
      name: "Controllers",
      dependencies: ["Primitives", "KubeAPI", "KubeClient", "Certification", logging],
      swiftSettings: fast),
    .target(
      name: "ServiceProxy", dependencies: ["KubeAPI", "KubeClient", "Netfilter", logging],
      swiftSettings: strict),
    .systemLibrary(
      name: "CZlib", path: "Sources/CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .target(
      name: "NodeAgent",
      dependencies: [
        "Primitives", "KubeAPI", "KubeYAML", "KubeClient", "HTTP1Client", "HTTP2", "HTTPServer",
        "CLinux", "CZlib", "Netfilter", "Certification",
        certificates, asn1, crypto, nioCore, nioPosix, nioHTTP1, nioSSL, logging,
      ],
      swiftSettings: strictBesideFoundation),

    // MARK: Executables
    .executableTarget(
      name: "martlet",
      dependencies: [
        "Primitives", "Raft", "MVCC", "Persistence", "Replica", "PeerTransport", "EtcdServer",
        "TransportSecurity", "EtcdClient", "EtcdProto", "EtcdImport", "Bolt", "HTTP2", "APIServer",
        "Scheduler", "Controllers", "NodeAgent", "ServiceProxy", "Netfilter", "Certification",
        "KubeAPI", "KubeClient", "HTTPServer", "CLinux", arguments, logging, crypto, protobuf, yams,
        nioCore, nioPosix,
      ],
      swiftSettings: strict),
    .executableTarget(
      name: "martlet-sim", dependencies: ["Primitives", "Simulator", arguments],
      swiftSettings: strict),
    .executableTarget(
      name: "martlet-bench",
      dependencies: [
        "Primitives", "EtcdWire", "HTTP2", "KubeAPI", "KubeClient", nioCore, nioPosix, nioSSL,
        arguments, histogram, logging,
      ],
      path: "Benchmarks/LoadGenerator", swiftSettings: fast),
    .target(name: "CCounting", path: "Benchmarks/CCounting"),
    .executableTarget(
      name: "martlet-counts",
      dependencies: [
        "CCounting", "Primitives", "EtcdWire", "HTTP2", "Raft", "MVCC", "Persistence", "Replica",
        "EtcdServer", nioCore, nioEmbedded, arguments,
      ],
      path: "Benchmarks/OperationCounts", swiftSettings: fast),

    // MARK: Test libraries
    .target(
      name: "SimulatedStorage", dependencies: ["Primitives", "Persistence"], swiftSettings: fast),
    .target(name: "Verification", dependencies: ["Primitives"], swiftSettings: fast),
    .target(
      name: "Simulator",
      dependencies: [
        "Primitives", "EtcdWire", "Raft", "MVCC", "Persistence", "Replica", "SimulatedStorage",
        "Verification",
      ],
      swiftSettings: fast),
    // What is fuzzed; its corpus is replayed by `FuzzTests`.
    .target(
      name: "FuzzTargets",
      dependencies: [
        "Primitives", "EtcdWire", "Raft", "MVCC", "Persistence", "Replica", "HTTP2",
        "SimulatedStorage", "EtcdImport", "EtcdServer", "EtcdProto", protobuf, yams,
      ],
      path: "Tests/FuzzTargets", swiftSettings: strict),
    .executableTarget(
      name: "martlet-fuzz", dependencies: ["FuzzTargets"], path: "Tests/Fuzzer",
      swiftSettings: strict),
    .target(name: "TestKit", path: "Tests/TestKit", swiftSettings: strict),
    // Real members under faults; `Scripts/fault-run`, and for a minute `ConformanceTests`.
    .executableTarget(
      name: "martlet-faults",
      dependencies: [
        "Primitives", "Verification", "EtcdProto", "EtcdClient", "TestKit", arguments, protobuf,
      ],
      path: "Tests/FaultRun", swiftSettings: strict),

    // MARK: Tests
    .testTarget(name: "ArchitectureTests", dependencies: ["TestKit"], swiftSettings: strict),
    .testTarget(
      name: "PrimitivesTests", dependencies: ["Primitives", "CChecksum"], swiftSettings: strict),
    .testTarget(
      name: "EtcdWireTests", dependencies: ["Primitives", "EtcdWire", "EtcdProto", protobuf],
      swiftSettings: strict),
    .testTarget(
      name: "RaftTests", dependencies: ["Primitives", "Raft", "TestKit"],
      exclude: ["Golden"], swiftSettings: strict),
    .testTarget(
      name: "MVCCTests", dependencies: ["Primitives", "EtcdWire", "MVCC", "TestKit"],
      exclude: ["Golden"], swiftSettings: strict),
    .testTarget(
      name: "EtcdImportTests",
      dependencies: ["Primitives", "EtcdWire", "MVCC", "Bolt", "EtcdImport", "FuzzTargets"],
      swiftSettings: strict),
    .testTarget(
      name: "PersistenceTests",
      dependencies: ["Primitives", "Raft", "Persistence", "SimulatedStorage", "TestKit"],
      exclude: ["Golden"], swiftSettings: strict),
    .testTarget(
      name: "HTTP2Tests", dependencies: ["Primitives", "HTTP2", nioCore, nioPosix, nioEmbedded],
      exclude: ["Clients"], swiftSettings: strict),
    .testTarget(
      name: "HTTPServerTests",
      dependencies: [
        "Primitives", "HTTP2", "HTTPServer", nioCore, nioPosix, nioHTTP1, nioWebSocket, nioSSL,
      ],
      swiftSettings: strict),
    .testTarget(
      name: "ReplicaTests",
      dependencies: [
        "Primitives", "EtcdWire", "Raft", "MVCC", "Persistence", "Replica", "SimulatedStorage",
        "TestKit",
      ],
      swiftSettings: strict),
    .testTarget(
      name: "PeerTransportTests",
      dependencies: ["Primitives", "Raft", "Replica", "PeerTransport", "TestKit", logging],
      swiftSettings: strict),
    .testTarget(
      name: "EtcdServerTests",
      dependencies: [
        "Primitives", "EtcdWire", "EtcdProto", "MVCC", "Replica", "HTTP2", "EtcdServer", nioCore,
        nioPosix, logging, protobuf,
      ],
      swiftSettings: strict),
    .testTarget(
      name: "LoadGeneratorTests", dependencies: ["EtcdWire", "martlet-bench", histogram],
      swiftSettings: strict),
    .testTarget(
      name: "FuzzTests", dependencies: ["Primitives", "FuzzTargets"], exclude: ["Corpus"],
      swiftSettings: strict),
    .testTarget(
      name: "VerificationTests", dependencies: ["Primitives", "Verification"],
      swiftSettings: strict),
    .testTarget(
      name: "SimulationTests", dependencies: ["Simulator", "Primitives", "Raft", "Replica"],
      swiftSettings: strict),
    .testTarget(
      name: "KubeAPITests", dependencies: ["Primitives", "KubeAPI", "TestKit"],
      exclude: ["Golden"], swiftSettings: strict),
    .testTarget(
      name: "KubeClientTests",
      dependencies: [
        "Primitives", "KubeAPI", "HTTP1Client", "KubeClient", "TestKit", logging, nioCore, nioPosix,
        nioSSL,
      ],
      swiftSettings: strict),
    .testTarget(
      name: "APIServerTests",
      dependencies: [
        "Primitives", "KubeAPI", "APIServer", "EtcdClient", "HTTPServer", "KubeClient",
        "Controllers", "Scheduler", "TestKit",
      ],
      exclude: ["Golden", "ControlPlane/Golden"], swiftSettings: strict),
    .testTarget(
      name: "SchedulerTests", dependencies: ["KubeAPI", "Scheduler", "TestKit"],
      exclude: ["Golden"], swiftSettings: strict),
    .testTarget(
      name: "ControllersTests",
      dependencies: ["KubeAPI", "KubeClient", "Certification", "Controllers", "TestKit"],
      exclude: ["Golden"], swiftSettings: strict),
    .testTarget(
      name: "ServiceProxyTests",
      dependencies: ["KubeAPI", "KubeClient", "Netfilter", "ServiceProxy", "TestKit", logging],
      exclude: ["Golden"], swiftSettings: strict),
    // The pods' shim alone, which the tests of the runtime start.
    .executableTarget(
      name: "martlet-shim-fixture", dependencies: ["NodeAgent", logging, nioPosix],
      path: "Tests/ShimFixture", swiftSettings: strict),
    .testTarget(
      name: "NodeAgentTests",
      dependencies: [
        "Primitives", "KubeAPI", "NodeAgent", "CLinux", "HTTPServer", "TestKit",
        "martlet-shim-fixture", logging, nioPosix,
      ],
      exclude: ["Golden"], swiftSettings: strict),
    // Real processes and real clients, against the release build that `Scripts/test` made.
    .testTarget(
      name: "ConformanceTests", dependencies: ["TestKit", "martlet-faults"],
      exclude: ["Store/Clients", "Store/Golden"], swiftSettings: strict),
  ]
)
