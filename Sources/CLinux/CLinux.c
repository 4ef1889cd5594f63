#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif

const int CLINUX_NEW_MOUNT = CLONE_NEWNS;
const int CLINUX_NEW_NETWORK = CLONE_NEWNET;
const int CLINUX_NEW_IPC = CLONE_NEWIPC;
const int CLINUX_NEW_UTS = CLONE_NEWUTS;

const unsigned long CLINUX_MOUNT_BIND = MS_BIND;
const unsigned long CLINUX_MOUNT_RECURSIVE = MS_REC;
const unsigned long CLINUX_MOUNT_NOSUID = MS_NOSUID;
const unsigned long CLINUX_MOUNT_NODEV = MS_NODEV;
const unsigned long CLINUX_MOUNT_NOEXEC = MS_NOEXEC;

const int64_t CLINUX_FILE_SYSTEM_CGROUP2 = CGROUP2_SUPER_MAGIC;
const int64_t CLINUX_FILE_SYSTEM_TMPFS = TMPFS_MAGIC;

static int result(long value) { return value < 0 ? -errno : (int)value; }

// MARK: Processes

// What the child reports through the pipe: its id when it is detached (the caller sees only the
// intermediate process), or the errno of the step that failed. No report at all means that the exec
// succeeded, because the pipe closes with it.
struct report {
  int is_error;
  int value;
};

static void send_report(int pipe, int is_error, int value) {
  struct report report = {is_error, value};
  ssize_t written;
  do {
    written = write(pipe, &report, sizeof report);
  } while (written < 0 && errno == EINTR);
}

static int raise_descriptor(int descriptor) {
  // Above 2, so that putting the standard ones in place never overwrites one still needed.
  if (descriptor < 0) return open("/dev/null", O_RDWR | O_CLOEXEC);
  return fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
}

// Runs between fork and exec: only async-signal-safe calls.
static void run_child(const struct clinux_spawn_request *request, int pipe) {
  int status_pipe = fcntl(pipe, F_DUPFD_CLOEXEC, 3);
  if (status_pipe < 0) _exit(127);

  if (request->mount_namespace >= 0 && setns(request->mount_namespace, CLONE_NEWNS) < 0)
    goto failed;
  if (request->network_namespace >= 0 && setns(request->network_namespace, CLONE_NEWNET) < 0)
    goto failed;
  if (request->is_detached) {
    if (setsid() < 0) goto failed;
    pid_t pid = fork();
    if (pid < 0) goto failed;
    if (pid > 0) _exit(0);
    send_report(status_pipe, 0, (int)getpid());
  }

  int streams[3] = {request->input, request->output, request->error};
  for (int i = 0; i < 3; i++) {
    streams[i] = raise_descriptor(streams[i]);
    if (streams[i] < 0) goto failed;
  }
  for (int i = 0; i < 3; i++) {
    if (dup2(streams[i], i) < 0) goto failed;
  }
  // The status pipe must survive until exec: move it to 3 and close all above.
  if (status_pipe != 3) {
    if (dup3(status_pipe, 3, O_CLOEXEC) < 0) goto failed;
    status_pipe = 3;
  }
  if (syscall(SYS_close_range, 4u, ~0u, 0u) < 0 && errno != ENOSYS) goto failed;

  sigset_t none;
  sigemptyset(&none);
  if (sigprocmask(SIG_SETMASK, &none, NULL) < 0) goto failed;
  for (int number = 1; number < NSIG; number++) {
    if (number != SIGKILL && number != SIGSTOP) signal(number, SIG_DFL);
  }

  if (request->new_namespaces != 0) {
    if (unshare(request->new_namespaces) < 0) goto failed;
    if ((request->new_namespaces & CLONE_NEWNS) &&
        mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
      goto failed;
  }
  if (request->directory != NULL && chdir(request->directory) < 0) goto failed;
  execve(request->path, request->arguments, request->environment);

failed:
  send_report(status_pipe, 1, errno);
  _exit(127);
}

int clinux_spawn(const struct clinux_spawn_request *request, pid_t *pid) {
  if (request->path == NULL || request->arguments == NULL || request->environment == NULL)
    return -EINVAL;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return -errno;

  // Signals stay blocked across the fork: a handler of ours must not run in the child.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    run_child(request, ends[1]);
    _exit(127);
  }
  int fork_error = errno;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  close(ends[1]);
  if (child < 0) {
    close(ends[0]);
    return -fork_error;
  }

  *pid = child;
  int outcome = 0;
  int has_detached_id = 0;
  for (;;) {
    struct report report;
    ssize_t count = read(ends[0], &report, sizeof report);
    if (count < 0 && errno == EINTR) continue;
    if (count != sizeof report) break;
    if (report.is_error) {
      outcome = report.value == 0 ? -EIO : -report.value;
    } else {
      *pid = report.value;
      has_detached_id = 1;
    }
  }
  close(ends[0]);
  if (request->is_detached || outcome != 0) {
    // The intermediate process, or a child that failed before exec, ends by itself.
    int ignored;
    while (waitpid(child, &ignored, 0) < 0 && errno == EINTR) {
    }
  }
  if (request->is_detached && outcome == 0 && !has_detached_id) outcome = -EIO;
  return outcome;
}

int clinux_become_subreaper(void) { return result(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)); }

int clinux_set_parent_death_signal(int signal) {
  return result(prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0));
}

int clinux_reap(pid_t pid, int *code, int *signal) {
  int status = 0;
  pid_t ended;
  do {
    ended = waitpid(pid, &status, WNOHANG);
  } while (ended < 0 && errno == EINTR);
  if (ended < 0) return -errno;
  if (ended == 0) return 0;
  *signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  *code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + *signal;
  return ended;
}

uint64_t clinux_process_start_time(pid_t pid) {
  char path[32];
  snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
  int descriptor = open(path, O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return 0;
  char text[1024];
  ssize_t count = read(descriptor, text, sizeof text - 1);
  close(descriptor);
  if (count <= 0) return 0;
  text[count] = 0;
  // The command's name stands in parentheses and may hold anything: count fields after the last one.
  char *cursor = strrchr(text, ')');
  if (cursor == NULL) return 0;
  cursor++;
  // Field 3 comes next; the state of a dead but unreaped process is Z or X.
  while (*cursor == ' ') cursor++;
  if (*cursor == 'Z' || *cursor == 'X') return 0;
  for (int field = 3; field < 22; field++) {
    cursor = strchr(cursor, ' ');
    if (cursor == NULL) return 0;
    cursor++;
  }
  return strtoull(cursor, NULL, 10);
}

int clinux_pidfd_open(pid_t pid) { return result(syscall(SYS_pidfd_open, pid, 0)); }

int clinux_pidfd_send_signal(int descriptor, int signal) {
  return result(syscall(SYS_pidfd_send_signal, descriptor, signal, NULL, 0));
}

// MARK: Namespaces and mounts

int clinux_setns(int descriptor, int namespaces) { return result(setns(descriptor, namespaces)); }

int clinux_sethostname(const char *name, size_t length) {
  return result(sethostname(name, length));
}

int clinux_mount(const char *source, const char *target, const char *type, unsigned long flags,
                 const char *options) {
  return result(mount(source, target, type, flags, options));
}

int clinux_unmount_lazily(const char *target) {
  return result(umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW));
}

int64_t clinux_file_system_type(const char *path) {
  struct statfs info;
  if (statfs(path, &info) < 0) return -errno;
  return (int64_t)(uint32_t)info.f_type;
}

// MARK: Files

int clinux_make_whiteout(int directory, const char *name) {
  return result(mknodat(directory, name, S_IFCHR, makedev(0, 0)));
}

int clinux_mark_opaque(int directory_itself) {
  return result(fsetxattr(directory_itself, "trusted.overlay.opaque", "y", 1, 0));
}

int clinux_is_opaque(const char *directory) {
  char value[2];
  return getxattr(directory, "trusted.overlay.opaque", value, sizeof value) == 1 && value[0] == 'y';
}

int clinux_make_node(int directory, const char *name, unsigned int mode, unsigned int major_number,
                     unsigned int minor_number) {
  return result(mknodat(directory, name, mode, makedev(major_number, minor_number)));
}

int clinux_open_in_root(int directory, const char *name, int flags, unsigned int mode) {
  struct open_how how = {0};
  how.flags = (uint64_t)(unsigned int)flags | O_CLOEXEC;
  how.mode = flags & O_CREAT ? mode : 0;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  return result(syscall(SYS_openat2, directory, name, &how, sizeof how));
}

int clinux_syncfs(int file) { return result(syncfs(file)); }

int clinux_set_capabilities(int file, const void *bytes, size_t count) {
  return result(fsetxattr(file, "security.capability", bytes, count, 0));
}

int clinux_pipe(int *ends) {
  if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
  if (fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0) {
    int error = errno;
    close(ends[0]);
    close(ends[1]);
    return -error;
  }
  return 0;
}

int clinux_pipe_for_input(int *ends) {
  if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
  if (fcntl(ends[1], F_SETFL, O_NONBLOCK) < 0) {
    int error = errno;
    close(ends[0]);
    close(ends[1]);
    return -error;
  }
  return 0;
}

int clinux_set_window_size(int terminal, unsigned short columns, unsigned short rows) {
  struct winsize size = {.ws_row = rows, .ws_col = columns};
  return result(ioctl(terminal, TIOCSWINSZ, &size));
}

// MARK: Unix sockets

static int fill_address(struct sockaddr_un *address, int directory, const char *name) {
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  int length = snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s",
                        directory, name);
  return length < 0 || (size_t)length >= sizeof address->sun_path ? -ENAMETOOLONG : 0;
}

// Opens a socket and applies `bind` or `connect` to the name in the directory.
static int socket_in(const char *directory_path, const char *name,
                     int (*attach)(int, const struct sockaddr *, socklen_t)) {
  int directory = open(directory_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return -errno;
  struct sockaddr_un address;
  int outcome = fill_address(&address, directory, name);
  int descriptor = -1;
  if (outcome == 0) {
    descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) {
      outcome = -errno;
    } else if (attach(descriptor, (struct sockaddr *)&address, sizeof address) < 0) {
      outcome = -errno;
    } else if (fcntl(descriptor, F_SETFL, O_NONBLOCK) < 0) {
      outcome = -errno;
    }
  }
  close(directory);
  if (outcome != 0 && descriptor >= 0) close(descriptor);
  return outcome != 0 ? outcome : descriptor;
}

int clinux_listen(const char *directory, const char *name, int backlog) {
  int descriptor = socket_in(directory, name, bind);
  if (descriptor < 0) return descriptor;
  if (listen(descriptor, backlog) < 0) {
    int error = errno;
    close(descriptor);
    return -error;
  }
  return descriptor;
}

int clinux_connect(const char *directory, const char *name) {
  return socket_in(directory, name, connect);
}

int clinux_accept(int listener) {
  return result(accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

// Waits for an event on a descriptor: 1 if it came, 0 if the time is over.
static int wait_for(int descriptor, short events, int milliseconds) {
  struct pollfd wait = {.fd = descriptor, .events = events};
  int count;
  do {
    count = poll(&wait, 1, milliseconds);
  } while (count < 0 && errno == EINTR);
  return count > 0;
}

int clinux_receive_descriptor(int listener, int milliseconds) {
  if (!wait_for(listener, POLLIN, milliseconds)) return -ETIMEDOUT;
  int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  if (connection < 0) return -errno;
  int outcome = -ETIMEDOUT;
  if (wait_for(connection, POLLIN, milliseconds)) {
    char text[256];
    union {
      struct cmsghdr header;
      char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec vector = {.iov_base = text, .iov_len = sizeof text};
    struct msghdr message = {0};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    ssize_t count = recvmsg(connection, &message, MSG_CMSG_CLOEXEC);
    outcome = count < 0 ? -errno : -EBADMSG;
    struct cmsghdr *header = count < 0 ? NULL : CMSG_FIRSTHDR(&message);
    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof(int))) {
      memcpy(&outcome, CMSG_DATA(header), sizeof outcome);
    }
  }
  close(connection);
  return outcome;
}

static int connect_to(int descriptor, const struct sockaddr *address, socklen_t length,
                      int milliseconds) {
  if (connect(descriptor, address, length) == 0) return 0;
  if (errno != EINPROGRESS) return -errno;
  if (!wait_for(descriptor, POLLOUT, milliseconds)) return -ETIMEDOUT;
  int error = 0;
  socklen_t size = sizeof error;
  if (getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &size) < 0) return -errno;
  return -error;
}

int clinux_connect_in_network(int network_namespace, unsigned short port, int milliseconds) {
  int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  if (own < 0) return -errno;
  if (setns(network_namespace, CLONE_NEWNET) < 0) {
    int error = errno;
    close(own);
    return -error;
  }
  // A socket belongs to the namespace in which it was made.
  int sockets[2] = {socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
                    socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  // A thread in the wrong network would silently serve it to others.
  if (setns(own, CLONE_NEWNET) < 0) abort();
  close(own);

  struct sockaddr_in version4 = {.sin_family = AF_INET, .sin_port = htons(port)};
  version4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  struct sockaddr_in6 version6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  version6.sin6_addr = in6addr_loopback;
  int outcome = -EAFNOSUPPORT;
  int connected = -1;
  if (sockets[0] >= 0) {
    outcome = connect_to(sockets[0], (struct sockaddr *)&version4, sizeof version4, milliseconds);
    if (outcome == 0) connected = 0;
  }
  if (connected < 0 && sockets[1] >= 0 &&
      connect_to(sockets[1], (struct sockaddr *)&version6, sizeof version6, milliseconds) == 0)
    connected = 1;
  for (int i = 0; i < 2; i++) {
    if (sockets[i] >= 0 && i != connected) close(sockets[i]);
  }
  return connected >= 0 ? sockets[connected] : outcome;
}

int clinux_route_socket(void) {
  return result(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
}

int clinux_netfilter_socket(void) {
  return result(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
}
