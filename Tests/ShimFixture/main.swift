import Glibc
import NodeAgent

// For tests of the runtime. In the product the shim is `martlet shim`.
//
//   martlet-shim-fixture DIRECTORY              the shim of a sandbox
//   martlet-shim-fixture --clean-up DIRECTORY   the same, cleaning up
//   martlet-shim-fixture --network DIRECTORY    two pods on a bridge, in the present network namespace
let arguments = CommandLine.arguments.dropFirst()
guard let directory = arguments.last else { exit(2) }
switch arguments.first {
case "--clean-up": exit(Shim.cleanUp(directory: directory))
case "--network": exit(await NetworkCheck.run(directory: directory))
default: exit(Shim.run(directory: directory))
}
