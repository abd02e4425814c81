/* Put in front of the C library by writes.py: the n-th call that writes below a folder fails. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static char under[4096];
static long at, passed;
static int code, lasting;

/* Begin to count the calls below a folder; the n-th (0: none) fails with that errno, and all later ones if `stay`. */
void fail_writes(const char *folder, long n, int number, int stay) {
    snprintf(under, sizeof under, "%s/", folder);
    at = n, passed = 0, code = number, lasting = stay;
}

long count_writes(void) { return passed; }

static int fails(const char *path) {
    if (!*under || strncmp(path, under, strlen(under))) return 0;
    passed++;
    if (!at || (lasting ? passed < at : passed != at)) return 0;
    errno = code;
    return 1;
}

static int fails_fd(int fd) {
    char link[64], path[4096];
    if (!*under) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return fails(path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define BY_FD(type, name, params, ...) \
    type name params { return fails_fd(fd) ? -1 : REAL(name)(__VA_ARGS__); }
BY_FD(ssize_t, write, (int fd, const void *from, size_t n), fd, from, n)
BY_FD(ssize_t, writev, (int fd, const struct iovec *from, int n), fd, from, n)
BY_FD(ssize_t, pwrite64, (int fd, const void *from, size_t n, off_t to), fd, from, n, to)
BY_FD(int, fsync, (int fd), fd)
BY_FD(int, ftruncate64, (int fd, off_t n), fd, n)

/* a full disk takes no new name, but lets go of one */
int posix_fallocate64(int fd, off_t from, off_t n) { return fails_fd(fd) ? code : REAL(posix_fallocate64)(fd, from, n); }
int rename(const char *from, const char *to) { return fails(to) ? -1 : REAL(rename)(from, to); }
int mkdir(const char *path, mode_t mode) { return fails(path) ? -1 : REAL(mkdir)(path, mode); }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = va_arg(more, mode_t); \
        va_end(more); \
        return flags & O_CREAT && fails(path) ? -1 : REAL(name)(path, flags, mode); \
    }
OPEN(open64)
OPEN(open)
