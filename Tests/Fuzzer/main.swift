import FuzzTargets

#if canImport(Glibc)
  import Glibc
#endif

// `martlet-fuzz TARGET ...`. Built with `-sanitize=fuzzer -DLIBFUZZER` it is libFuzzer's driver of one target, with
// libFuzzer's own arguments; built as usual it runs the target on the files that are named, as to look at a crash.

func fail(_ message: String) -> Never {
  _ = Array((message + "\n").utf8).withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
  exit(2)
}

if CommandLine.arguments.dropFirst() == ["--list"] {
  print(FuzzTarget.allCases.map(\.rawValue).joined(separator: "\n"))
  exit(0)
}
guard CommandLine.arguments.count > 1, let target = FuzzTarget(rawValue: CommandLine.arguments[1]) else {
  fail("usage: martlet-fuzz \(FuzzTarget.allCases.map(\.rawValue).joined(separator: "|")) ...")
}

#if LIBFUZZER
  @_silgen_name("LLVMFuzzerRunDriver")
  func runDriver(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
    _ test: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
  ) -> CInt

  // libFuzzer's arguments are the rest; its corpus folder gets the seeds first.
  if let folder = CommandLine.arguments.dropFirst(2).first(where: { !$0.hasPrefix("-") }) {
    for (number, seed) in target.seeds.enumerated() {
      guard let file = fopen("\(folder)/seed-\(number)", "w") else { fail("can't write to \(folder)") }
      fwrite(seed, 1, seed.count, file)
      fclose(file)
    }
  }
  let fuzzed = target
  var arguments: [UnsafeMutablePointer<CChar>?] =
    ([CommandLine.arguments[0]] + CommandLine.arguments.dropFirst(2)).map { strdup($0) } + [nil]
  var count = CInt(arguments.count - 1)
  let result = arguments.withUnsafeMutableBufferPointer { buffer in
    var base = buffer.baseAddress
    return runDriver(&count, &base) { bytes, size in
      fuzzed.run(Array(UnsafeBufferPointer(start: bytes, count: size)))
      return 0
    }
  }
  exit(result)
#else
  for path in CommandLine.arguments.dropFirst(2) {
    guard let file = fopen(path, "r") else { fail("can't read \(path)") }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while case let read = fread(&buffer, 1, buffer.count, file), read > 0 {
      bytes += buffer[..<read]
    }
    fclose(file)
    target.run(bytes)
    print("\(path): \(bytes.count) bytes, nothing broken")
  }
#endif
