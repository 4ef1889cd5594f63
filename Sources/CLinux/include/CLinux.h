#pragma once

// Linux calls that glibc's Swift overlay hides or that only C can make safely.
//
// Every function returns 0 (or a descriptor or count) on success and a negated errno otherwise, so
// that no caller has to read the thread's errno after the fact. Nothing here keeps state.

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// MARK: Processes

/// What to start and how; see `clinux_spawn`.
struct clinux_spawn_request {
  /// The executable's path; it is not searched for in PATH.
  const char *_Nullable path;
  /// Both end with a null pointer.
  char *const _Nullable *_Nullable arguments;
  char *const _Nullable *_Nullable environment;
  /// Becomes the child's working directory if not null.
  const char *_Nullable directory;
  /// The child's descriptors 0, 1 and 2; a negative one becomes /dev/null. All others are closed.
  int input;
  int output;
  int error;
  /// Namespaces to leave before the executable starts (CLINUX_NEW…), 0 for none. With a new mount
  /// namespace, mounts made in it stay in it, while the parent's still arrive.
  int new_namespaces;
  /// An open mount namespace that the child enters before anything else; -1 for none.
  int mount_namespace;
  /// The same for a network namespace.
  int network_namespace;
  /// Non-zero: the child gets a session of its own and belongs to init, not to the caller.
  int is_detached;
};

extern const int CLINUX_NEW_MOUNT;
extern const int CLINUX_NEW_NETWORK;
extern const int CLINUX_NEW_IPC;
extern const int CLINUX_NEW_UTS;

/// Starts a program and stores its process id. A failure in the child, the exec itself included, is
/// returned here as its negated errno, and then nothing runs.
int clinux_spawn(const struct clinux_spawn_request *_Nonnull request, pid_t *_Nonnull pid);

/// Makes the caller the parent of its orphaned descendants.
int clinux_become_subreaper(void);

/// Sends the calling process `signal` when its parent ends.
int clinux_set_parent_death_signal(int signal);

/// Waits for one ended child without blocking. Returns its id, 0 if none has ended, -ECHILD if there
/// is none. `code` is the exit status, `signal` the signal that ended it, or 0.
int clinux_reap(pid_t pid, int *_Nonnull code, int *_Nonnull signal);

/// Ticks since boot at which a process started (field 22 of /proc/PID/stat): with the id it names a
/// process for good. 0 if there is no such process.
uint64_t clinux_process_start_time(pid_t pid);

/// Opens a descriptor that stands for a process.
int clinux_pidfd_open(pid_t pid);
int clinux_pidfd_send_signal(int descriptor, int signal);

// MARK: Namespaces and mounts

int clinux_setns(int descriptor, int namespaces);
int clinux_sethostname(const char *_Nonnull name, size_t length);

extern const unsigned long CLINUX_MOUNT_BIND;
extern const unsigned long CLINUX_MOUNT_RECURSIVE;
extern const unsigned long CLINUX_MOUNT_NOSUID;
extern const unsigned long CLINUX_MOUNT_NODEV;
extern const unsigned long CLINUX_MOUNT_NOEXEC;

int clinux_mount(const char *_Nullable source, const char *_Nonnull target,
                 const char *_Nullable type, unsigned long flags, const char *_Nullable options);
/// Unmounts at once for new accesses; the kernel lets go when the last user does.
int clinux_unmount_lazily(const char *_Nonnull target);

/// The magic number of the file system that holds `path`, or a negated errno.
int64_t clinux_file_system_type(const char *_Nonnull path);
extern const int64_t CLINUX_FILE_SYSTEM_CGROUP2;
extern const int64_t CLINUX_FILE_SYSTEM_TMPFS;

// MARK: Files

/// Makes the character device 0:0 by which overlayfs knows a deleted name.
int clinux_make_whiteout(int directory, const char *_Nonnull name);
/// Marks a directory so that overlayfs doesn't look below it.
int clinux_mark_opaque(int directory_itself);
/// Whether a directory has that mark: 1 or 0.
int clinux_is_opaque(const char *_Nonnull directory);
/// Creates a FIFO or a device node under an open directory.
int clinux_make_node(int directory, const char *_Nonnull name, unsigned int mode,
                     unsigned int major, unsigned int minor);
/// Opens `name` as if `directory` were the root: neither `..` nor a symbolic link leaves it.
int clinux_open_in_root(int directory, const char *_Nonnull name, int flags, unsigned int mode);
/// Writes everything of the file system that holds `file` to the disk.
int clinux_syncfs(int file);
/// Gives a file its `security.capability` attribute.
int clinux_set_capabilities(int file, const void *_Nonnull bytes, size_t count);

/// A pipe whose ends close on exec; `ends[0]` is read, and it doesn't block.
int clinux_pipe(int *_Nonnull ends);

/// The same the other way round: `ends[1]` is written, and it doesn't block.
int clinux_pipe_for_input(int *_Nonnull ends);
/// Sets the size of a terminal, in characters.
int clinux_set_window_size(int terminal, unsigned short columns, unsigned short rows);

// MARK: Unix sockets

/// A listening stream socket at `path`, close-on-exec, non-blocking. A path longer than the 107 bytes
/// of `sockaddr_un` works too: the directory is opened and addressed by its descriptor.
int clinux_listen(const char *_Nonnull directory, const char *_Nonnull name, int backlog);
/// Connects to such a socket.
int clinux_connect(const char *_Nonnull directory, const char *_Nonnull name);
int clinux_accept(int listener);
/// Waits up to `milliseconds` for a connection on `listener` and for the descriptor that it carries.
/// Returns that descriptor, or -ETIMEDOUT.
int clinux_receive_descriptor(int listener, int milliseconds);
/// Connects to a TCP port on the loopback of the network namespace that `network_namespace` stands for;
/// IPv4 first, then IPv6. The socket doesn't block and closes on exec. The calling thread is back in its
/// own namespace when this returns.
int clinux_connect_in_network(int network_namespace, unsigned short port, int milliseconds);

/// A netlink route socket, close-on-exec.
int clinux_route_socket(void);
/// A netlink socket to the packet filter's parts, connection tracking among them.
int clinux_netfilter_socket(void);
