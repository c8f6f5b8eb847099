/* Faults of a disk, from outside the process: preloaded, it lets the n-th change of a file below a folder fail.
 *
 * proof_arm("FOLDER|KINDS|N|ACTION|REPORT"), or the same text in PROOF_FAULT for a process that is started with it.
 *   KINDS   letters: w write, s fsync, r rename, t truncate, u unlink
 *   N       which of these calls; 0: none, they are only noted
 *   ACTION  eio (this call fails), enospc (a write is cut short; from then on nothing can be written),
 *           kill (SIGKILL; of a write one half is done)
 *   REPORT  file that gets a line for every such call
 * Only the process that armed it is touched, never its children.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX], kinds[16], action[16];
static long nth, seen;
static int report = -1, is_full;
static pid_t armed;

void proof_arm(const char *text) {
    char path[PATH_MAX];
    if (sscanf(text, "%4095[^|]|%15[^|]|%ld|%15[^|]|%4095[^|]", folder, kinds, &nth, action, path) != 5) abort();
    report = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (report < 0) abort();
    seen = 0;
    is_full = 0;
    armed = getpid();
}

__attribute__((constructor)) static void arm_at_start(void) {
    const char *text = getenv("PROOF_FAULT");
    if (text == NULL) return;
    proof_arm(text);
    unsetenv("PROOF_FAULT");
    unsetenv("LD_PRELOAD");
}

static int is_below(const char *path) {
    size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static void absolute(const char *path, char *whole) {
    if (path[0] == '/' || getcwd(whole, PATH_MAX) == NULL) whole[0] = 0;
    else strncat(whole, "/", PATH_MAX - strlen(whole) - 1);
    strncat(whole, path, PATH_MAX - strlen(whole) - 1);
}

static void of_descriptor(int fd, char *whole) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, whole, PATH_MAX - 1);
    whole[length < 0 ? 0 : length] = 0;
}

/* 0: go on; 1: it fails with errno set; 2: only half of it is done; 3: half of it is done and the process dies. */
static int meets(char kind, const char *path) {
    if (armed == 0 || armed != getpid() || !is_below(path) || strchr(kinds, kind) == NULL) return 0;
    size_t length_of = strlen(path);
    if (length_of > 4 && strcmp(path + length_of - 4, ".log") == 0) return 0;  /* what it prints is no part of the store */
    char line[PATH_MAX + 32];
    long number = __sync_add_and_fetch(&seen, 1);
    int is_hit = number == nth;
    int length = snprintf(line, sizeof line, "%c %s%s\n", kind, path + strlen(folder), is_hit ? " HIT" : "");
    syscall(SYS_write, report, line, (size_t)length);
    if (is_full) { errno = ENOSPC; return kind == 'w' || kind == 's' || kind == 'r'; }
    if (!is_hit) return 0;
    if (strcmp(action, "kill") == 0) {
        if (kind == 'w') return 3;
        syscall(SYS_kill, getpid(), SIGKILL);
    }
    if (strcmp(action, "enospc") == 0) {
        is_full = 1;
        errno = ENOSPC;
        return kind == 'w' ? 2 : 1;
    }
    errno = EIO;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define MEETS_FD(kind, fd) ({ char where[PATH_MAX]; int found = 0; \
    if (armed != 0) { of_descriptor(fd, where); found = meets(kind, where); } found; })
#define MEETS_PATH(kind, path) ({ char where[PATH_MAX]; int found = 0; \
    if (armed != 0) { absolute(path, where); found = meets(kind, where); } found; })

ssize_t write(int fd, const void *data, size_t size) {
    static __typeof__(&write) real;
    if (real == NULL) real = REAL(write);
    switch (MEETS_FD('w', fd)) {
    case 0: return real(fd, data, size);
    case 1: return -1;
    case 2: if (size < 2) return -1; return real(fd, data, size / 2);
    default: real(fd, data, size / 2); syscall(SYS_kill, getpid(), SIGKILL); return -1;
    }
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t place) {
    static __typeof__(&pwrite) real;
    if (real == NULL) real = REAL(pwrite);
    switch (MEETS_FD('w', fd)) {
    case 0: return real(fd, data, size, place);
    case 1: return -1;
    case 2: if (size < 2) return -1; return real(fd, data, size / 2, place);
    default: real(fd, data, size / 2, place); syscall(SYS_kill, getpid(), SIGKILL); return -1;
    }
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t place) { return pwrite(fd, data, size, place); }

/* A part of a vector is its first piece. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
    static __typeof__(&writev) real;
    if (real == NULL) real = REAL(writev);
    switch (MEETS_FD('w', fd)) {
    case 0: return real(fd, parts, count);
    case 1: return -1;
    case 2: if (count < 2) return -1; return real(fd, parts, 1);
    default: real(fd, parts, 1); syscall(SYS_kill, getpid(), SIGKILL); return -1;
    }
}

int fsync(int fd) { return MEETS_FD('s', fd) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return MEETS_FD('s', fd) ? -1 : REAL(fdatasync)(fd); }
int rename(const char *from, const char *to) { return MEETS_PATH('r', to) ? -1 : REAL(rename)(from, to); }
int unlink(const char *path) { return MEETS_PATH('u', path) ? -1 : REAL(unlink)(path); }
int truncate(const char *path, off_t size) { return MEETS_PATH('t', path) ? -1 : REAL(truncate)(path, size); }
int truncate64(const char *path, off_t size) { return MEETS_PATH('t', path) ? -1 : REAL(truncate)(path, size); }
int ftruncate(int fd, off_t size) { return MEETS_FD('t', fd) ? -1 : REAL(ftruncate)(fd, size); }
int ftruncate64(int fd, off_t size) { return MEETS_FD('t', fd) ? -1 : REAL(ftruncate)(fd, size); }
