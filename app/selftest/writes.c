/* Put before the C library of several processes: what they write, name and sync is noted in one file, in one order.
 *
 * The file that HEADRACE_WRITES names gets a frame for each call that changes a file or a folder, in the order in which
 * they were done: each is done and noted under one lock on that file, which goes with its process. Syncing is not held
 * up by it: its frame says how long the file was when it began, and what was noted before that is durable. A process
 * waits for the lock before its first instruction, so that whoever holds it can change what all of them find.
 * Files and folders are known by device and inode. Where writes.py reads it stands what each frame holds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, SIZE, FILE_MADE, FOLDER_MADE, LINKED, RENAMED, GONE, SYNCED, MAPPED };

/* A call may take fewer pieces than it is given; ours go in one call with what is said of them (IOV_MAX). */
#define MOST 1000

struct frame {
    uint32_t kind;
    uint16_t names[2];
    uint64_t bytes;
    uint64_t of[2];
    uint64_t in[2][2];
    int64_t at;
};

struct entry {
    uint64_t in[2];
    const char *name;
    size_t length;
};

static int notes = -1;
static pthread_mutex_t mine = PTHREAD_MUTEX_INITIALIZER;

static void wait_for(short kind)
{
    struct flock all = {.l_type = kind, .l_whence = SEEK_SET};
    int was = errno;
    while (fcntl(notes, F_SETLKW, &all) != 0 && (errno == EINTR || errno == EDEADLK))
        ;
    errno = was;
}

static void take(void)
{
    pthread_mutex_lock(&mine);
    wait_for(F_WRLCK);
}

static void give(void)
{
    wait_for(F_UNLCK);
    pthread_mutex_unlock(&mine);
}

static void before_fork(void) { pthread_mutex_lock(&mine); }
static void after_fork(void) { pthread_mutex_unlock(&mine); }

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("HEADRACE_WRITES");
    if (name == NULL)
        return;
    notes = (int)syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_APPEND | O_CLOEXEC);
    if (notes < 0)
        return;
    pthread_atfork(before_fork, after_fork, after_fork);
    take();
    give();
}

/* A disk without room for the notes would make every later cut a lie: better no process at all. */
static void note(struct frame *made, const char *first, const char *second, const struct iovec *data, int pieces)
{
    struct iovec all[MOST + 3] = {{made, sizeof *made}, {(void *)first, made->names[0]}, {(void *)second, made->names[1]}};
    int was = errno;
    for (int i = 0; i < pieces; i++) {
        all[3 + i] = data[i];
        made->bytes += data[i].iov_len;
    }
    ssize_t whole = (ssize_t)(sizeof *made + made->names[0] + made->names[1] + made->bytes);
    if (syscall(SYS_writev, notes, all, pieces + 3) != whole)
        abort();
    errno = was;
}

static int regular(int file, struct stat *found)
{
    return notes >= 0 && fstat(file, found) == 0 && S_ISREG(found->st_mode);
}

static void of(struct frame *made, const struct stat *found)
{
    made->of[0] = found->st_dev;
    made->of[1] = found->st_ino;
}

/* The folder that a name lies in, and its last part. */
static int split(int folder, const char *path, struct entry *into)
{
    char parent[4096];
    struct stat found;
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    if (start >= sizeof parent || end - start > 255)
        return -1;
    memcpy(parent, path, start);
    strcpy(parent + start, ".");
    if (fstatat(folder, parent, &found, 0) != 0)
        return -1;
    *into = (struct entry){{found.st_dev, found.st_ino}, path + start, end - start};
    return 0;
}

static void note_entry(uint32_t kind, const struct stat *what, const struct entry *where, int64_t at)
{
    struct frame made = {.kind = kind, .names = {(uint16_t)where->length}, .at = at};
    if (what != NULL)
        of(&made, what);
    memcpy(made.in[0], where->in, sizeof where->in);
    note(&made, where->name, NULL, NULL, 0);
}

static void note_size(const struct stat *what, int64_t size)
{
    struct frame made = {.kind = SIZE, .at = size};
    of(&made, what);
    note(&made, NULL, NULL, NULL, 0);
}

static int opened(int folder, const char *path, int flags, mode_t mode)
{
    struct stat before, after;
    struct entry where;
    if (notes < 0 || !(flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE)
        return (int)syscall(SYS_openat, folder, path, flags, mode);
    take();
    int was = errno;
    int there = fstatat(folder, path, &before, 0) == 0;
    errno = was;
    int file = (int)syscall(SYS_openat, folder, path, flags, mode);
    if (file >= 0 && regular(file, &after)) {
        if (!there && split(folder, path, &where) == 0)
            note_entry(FILE_MADE, &after, &where, after.st_mode);
        else if (there && (flags & O_TRUNC))
            note_size(&after, 0);
    }
    give();
    return file;
}

#define MODE(flags)                                                                                                    \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                             \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode = va_arg(more, mode_t);                                                                                   \
        va_end(more);                                                                                                  \
    }

int open(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE(flags) return opened(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE(flags) return opened(folder, path, flags, mode); }
int __open_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* at < 0: where the descriptor stands. */
static ssize_t written(int file, const struct iovec *data, int pieces, off_t at)
{
    struct stat found;
    if (!regular(file, &found) || pieces < 0)
        return at < 0 ? syscall(SYS_writev, file, data, pieces) : syscall(SYS_pwritev, file, data, pieces, at, 0);
    pieces = pieces < MOST ? pieces : MOST;
    take();
    ssize_t done = at < 0 ? syscall(SYS_writev, file, data, pieces) : syscall(SYS_pwritev, file, data, pieces, at, 0);
    if (done > 0) {
        struct iovec taken[MOST];
        size_t left = (size_t)done;
        int whole = 0;
        for (; whole < pieces && left > 0; whole++) {
            taken[whole] = (struct iovec){data[whole].iov_base, data[whole].iov_len < left ? data[whole].iov_len : left};
            left -= taken[whole].iov_len;
        }
        struct frame made = {.kind = WRITE, .at = at < 0 ? syscall(SYS_lseek, file, 0, SEEK_CUR) - done : at};
        of(&made, &found);
        note(&made, NULL, NULL, taken, whole);
    }
    give();
    return done;
}

ssize_t write(int file, const void *data, size_t size)
{
    struct stat found;
    if (!regular(file, &found))
        return syscall(SYS_write, file, data, size);
    struct iovec one = {(void *)data, size};
    return written(file, &one, 1, -1);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at)
{
    struct iovec one = {(void *)data, size};
    return at < 0 ? syscall(SYS_pwrite64, file, data, size, at) : written(file, &one, 1, at);
}

ssize_t pwritev2(int file, const struct iovec *data, int pieces, off_t at, int flags)
{
    return flags ? (errno = EOPNOTSUPP, -1) : written(file, data, pieces, at);
}

ssize_t writev(int file, const struct iovec *data, int pieces) { return written(file, data, pieces, -1); }
ssize_t pwrite64(int file, const void *data, size_t size, off_t at) { return pwrite(file, data, size, at); }
ssize_t pwritev(int file, const struct iovec *data, int n, off_t at) { return written(file, data, n, at); }
ssize_t pwritev64(int file, const struct iovec *data, int n, off_t at) { return written(file, data, n, at); }
ssize_t pwritev64v2(int file, const struct iovec *data, int n, off_t at, int f) { return pwritev2(file, data, n, at, f); }

/* Copies inside the kernel are refused as a file system may: callers then read and write, which is seen. */
ssize_t sendfile(int to, int from, off_t *at, size_t size)
{
    struct stat found;
    return regular(to, &found) ? (errno = EINVAL, -1) : syscall(SYS_sendfile, to, from, at, size);
}

ssize_t sendfile64(int to, int from, off_t *at, size_t size) { return sendfile(to, from, at, size); }

ssize_t copy_file_range(int from, off_t *at, int to, off_t *there, size_t size, unsigned flags)
{
    return notes >= 0 ? (errno = EXDEV, -1) : syscall(SYS_copy_file_range, from, at, to, there, size, flags);
}

static int sized(int file, long number, long a, long b, long c)
{
    struct stat found;
    if (!regular(file, &found))
        return (int)syscall(number, file, a, b, c);
    take();
    int code = (int)syscall(number, file, a, b, c);
    struct stat after;
    if (code == 0 && fstat(file, &after) == 0 && after.st_size != found.st_size)
        note_size(&after, after.st_size);
    give();
    return code;
}

int ftruncate(int file, off_t size) { return sized(file, SYS_ftruncate, size, 0, 0); }
int ftruncate64(int file, off_t size) { return sized(file, SYS_ftruncate, size, 0, 0); }
int fallocate(int file, int mode, off_t at, off_t size) { return sized(file, SYS_fallocate, mode, at, size); }
int fallocate64(int file, int mode, off_t at, off_t size) { return sized(file, SYS_fallocate, mode, at, size); }
int posix_fallocate(int file, off_t at, off_t size) { return sized(file, SYS_fallocate, 0, at, size) ? errno : 0; }
int posix_fallocate64(int file, off_t at, off_t size) { return posix_fallocate(file, at, size); }

int truncate(const char *path, off_t size)
{
    int file = opened(AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
    if (file < 0)
        return -1;
    int code = ftruncate(file, size), was = errno;
    close(file);
    errno = was;
    return code;
}

int truncate64(const char *path, off_t size) { return truncate(path, size); }

static int renamed(int from, const char *old, int to, const char *fresh, unsigned flags)
{
    struct entry a, b;
    if (notes < 0)
        return (int)syscall(SYS_renameat2, from, old, to, fresh, flags);
    take();
    int known = split(from, old, &a) == 0 && split(to, fresh, &b) == 0;
    int code = (int)syscall(SYS_renameat2, from, old, to, fresh, flags);
    if (code == 0 && known) {
        struct frame made = {.kind = RENAMED, .names = {(uint16_t)a.length, (uint16_t)b.length}};
        memcpy(made.in[0], a.in, sizeof a.in);
        memcpy(made.in[1], b.in, sizeof b.in);
        note(&made, a.name, b.name, NULL, 0);
    }
    give();
    return code;
}

int rename(const char *old, const char *fresh) { return renamed(AT_FDCWD, old, AT_FDCWD, fresh, 0); }
int renameat(int from, const char *old, int to, const char *fresh) { return renamed(from, old, to, fresh, 0); }
int renameat2(int from, const char *old, int to, const char *fresh, unsigned flags)
{
    return renamed(from, old, to, fresh, flags);
}

/* What a call has made under a name, or has taken away. */
static int named(uint32_t kind, long number, const long call[5], int folder, const char *path)
{
    struct entry where;
    struct stat found;
    if (notes < 0)
        return (int)syscall(number, call[0], call[1], call[2], call[3], call[4]);
    take();
    int known = split(folder, path, &where) == 0;
    int code = (int)syscall(number, call[0], call[1], call[2], call[3], call[4]);
    if (code == 0 && known) {
        if (kind == GONE)
            note_entry(kind, NULL, &where, 0);
        else if (fstatat(folder, path, &found, AT_SYMLINK_NOFOLLOW) == 0)
            note_entry(kind, &found, &where, found.st_mode);
    }
    give();
    return code;
}

int unlinkat(int folder, const char *path, int flags)
{
    return named(GONE, SYS_unlinkat, (long[5]){folder, (long)path, flags}, folder, path);
}

int mkdirat(int folder, const char *path, mode_t mode)
{
    return named(FOLDER_MADE, SYS_mkdirat, (long[5]){folder, (long)path, mode}, folder, path);
}

int linkat(int from, const char *old, int to, const char *fresh, int flags)
{
    return named(LINKED, SYS_linkat, (long[5]){from, (long)old, to, (long)fresh, flags}, to, fresh);
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
int link(const char *old, const char *fresh) { return linkat(AT_FDCWD, old, AT_FDCWD, fresh, 0); }

int remove(const char *path)
{
    int code = unlink(path);
    return code != 0 && (errno == EISDIR || errno == EPERM) ? rmdir(path) : code;
}

void *mmap(void *at, size_t size, int protection, int flags, int file, off_t from)
{
    struct stat found;
    void *made = (void *)syscall(SYS_mmap, at, size, protection, flags, file, from);
    if (made != MAP_FAILED && file >= 0 && (protection & PROT_WRITE) && (flags & MAP_SHARED) && regular(file, &found)) {
        struct frame frame = {.kind = MAPPED, .at = (int64_t)size};
        of(&frame, &found);
        take();
        note(&frame, NULL, NULL, NULL, 0);
        give();
    }
    return made;
}

void *mmap64(void *at, size_t size, int protection, int flags, int file, off_t from)
{
    return mmap(at, size, protection, flags, file, from);
}

/* Of preload.c, which decides whether the disk takes it at all. */
int synced(int file, long number)
{
    struct stat before, found;
    if (notes < 0 || fstat(notes, &before) != 0)
        return (int)syscall(number, file);
    int code = (int)syscall(number, file);
    if (code == 0 && fstat(file, &found) == 0 && (S_ISREG(found.st_mode) || S_ISDIR(found.st_mode))) {
        struct frame made = {.kind = SYNCED, .at = before.st_size};
        of(&made, &found);
        take();
        note(&made, NULL, NULL, NULL, 0);
        give();
    }
    return code;
}
