import Glibc
import NodeAgent

// The shim alone, for tests of the runtime: in the product it is `martlet shim`.
let arguments = CommandLine.arguments.dropFirst()
if let directory = arguments.last {
  exit(
    arguments.first == "--clean-up"
      ? Shim.cleanUp(directory: directory) : Shim.run(directory: directory))
}
