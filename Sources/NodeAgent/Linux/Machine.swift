import Glibc

/// Facts about the machine that don't change while it runs.
public enum Machine {
  /// In Go's spelling, as images and nodes are labelled.
  public static var architecture: String {
    #if arch(x86_64)
      "amd64"
    #elseif arch(arm64)
      "arm64"
    #elseif arch(arm)
      "arm"
    #elseif arch(i386)
      "386"
    #elseif arch(riscv64)
      "riscv64"
    #else
      "unknown"
    #endif
  }

  /// Differs after each boot: process ids of another boot mean nothing.
  static var bootID: String { Disk.readLine("/proc/sys/kernel/random/boot_id") ?? "" }
}
