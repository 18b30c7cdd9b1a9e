/*
 * What a disk is sure of: loaded into a node with LD_PRELOAD, it keeps a record of what completed syncs covered.
 *
 * Owns: the records under $SYNCED_HOME, which `cut.rs` reads:
 *   lengths/<key>  how long the file was, in the machine's own eight bytes, when a sync that has completed began;
 *   names/<key>    what a directory held then, a line "f <key> <name>" for each file and "d <key> <name>" for each
 *                  directory;
 *   files/<key>    a further link to each file that was ever so listed, in case its name is to come back.
 * A key is an inode's number and birth: renames keep it, and a number that is used again gets another one.
 *
 * Must not know: who syncs, and what the files mean.
 *
 * Invariants: only fsync and fdatasync count, only once they have succeeded, and only for what was there before they
 * began; the record is made before the caller hears of the success; a process that can't make a record ends. Whatever
 * makes data durable in other ways (sync_file_range does not; syncfs, msync and O_SYNC would) goes unrecorded, so the
 * disk can be taken for worse than it is and not for better. That holds for files that only grow, as a database's do:
 * what is written over something synced is taken for synced too.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

/* Bytes of a key, and of a path in /proc, with room to spare. */
enum { KEY = 64, PATH = 64 };

typedef int (*sync_call)(int);

static sync_call real_fsync, real_fdatasync;
static int (*real_fstatfs)(int, struct statfs *);
static int home, lengths, names, files;
static pthread_mutex_t length_records = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t name_records = PTHREAD_MUTEX_INITIALIZER;

static void fail(const char *what) {
    dprintf(STDERR_FILENO, "synced.c: %s: %s\n", what, strerror(errno));
    abort();
}

static int open_records(int at, const char *path) {
    int directory = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        fail(path);
    return directory;
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("SYNCED_HOME");
    real_fsync = (sync_call)dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = (sync_call)dlsym(RTLD_NEXT, "fdatasync");
    real_fstatfs = (int (*)(int, struct statfs *))dlsym(RTLD_NEXT, "fstatfs");
    home = open_records(AT_FDCWD, path ? path : "SYNCED_HOME is not set");
    lengths = open_records(home, "lengths");
    names = open_records(home, "names");
    files = open_records(home, "files");
}

static int look(int file, struct statx *seen) {
    return statx(file, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, seen);
}

static void key_of(const struct statx *seen, char key[KEY]) {
    if (!(seen->stx_mask & STATX_BTIME)) {
        errno = ENOTSUP;
        fail("when a file was born");
    }
    snprintf(key, KEY, "%llu-%lld.%09u", (unsigned long long)seen->stx_ino, (long long)seen->stx_btime.tv_sec,
             (unsigned)seen->stx_btime.tv_nsec);
}

/* The longest counts: of two syncs at once, the one that covered less may end last. */
static void keep_length(const char *key, uint64_t length) {
    uint64_t known = 0;
    pthread_mutex_lock(&length_records);
    int record = openat(lengths, key, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (record < 0 || pread(record, &known, sizeof known, 0) < 0)
        fail("a length is read");
    if (known < length && pwrite(record, &length, sizeof length, 0) != sizeof length)
        fail("a length is kept");
    close(record);
    pthread_mutex_unlock(&length_records);
}

/* A name whose file is replaced meanwhile is looked at again: a rename never leaves it without one. */
static void list_name(int directory, const char *name, FILE *listing) {
    for (;;) {
        struct statx seen;
        char key[KEY], path[PATH];
        int file = openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC), linked = 0;
        if (file < 0 && errno == ENOENT)
            return;
        if (file < 0 || look(file, &seen) != 0)
            fail(name);
        key_of(&seen, key);
        if (S_ISREG(seen.stx_mode)) {
            snprintf(path, PATH, "/proc/self/fd/%d", file);
            linked = linkat(AT_FDCWD, path, files, key, AT_SYMLINK_FOLLOW);
            if (linked != 0 && errno != EEXIST && errno != ENOENT)
                fail(name);
        }
        int gone = linked != 0 && errno == ENOENT;
        close(file);
        if (gone)
            continue;
        if (S_ISREG(seen.stx_mode) || S_ISDIR(seen.stx_mode))
            fprintf(listing, "%c %s %s\n", S_ISDIR(seen.stx_mode) ? 'd' : 'f', key, name);
        return;
    }
}

static void list_names(int directory, const char *draft) {
    int record = openat(names, draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int again = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    FILE *listing = record < 0 ? NULL : fdopen(record, "w");
    DIR *entries = again < 0 ? NULL : fdopendir(again);
    if (!listing || !entries)
        fail("a directory is listed");
    for (struct dirent *entry; (entry = readdir(entries));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            list_name(directory, entry->d_name, listing);
    closedir(entries);
    if (fclose(listing) != 0)
        fail("a listing is written");
}

/* One at a time, so that no listing is followed by an older one. */
static int sync_names(int directory, const char *key, sync_call real) {
    char draft[KEY + 4];
    snprintf(draft, sizeof draft, "%s.new", key);
    pthread_mutex_lock(&name_records);
    list_names(directory, draft);
    int result = real(directory), error = errno;
    if (result == 0 && renameat(names, draft, names, key) != 0)
        fail("a listing is kept");
    pthread_mutex_unlock(&name_records);
    errno = error;
    return result;
}

static int sync_by(int file, sync_call real) {
    struct statx seen;
    char key[KEY];
    /* From the moment there is such a file, the disk lies: it says that it has synced, and does nothing. */
    if (faccessat(home, "lying", F_OK, 0) == 0)
        return 0;
    if (look(file, &seen) != 0)
        return -1;
    if (!S_ISREG(seen.stx_mode) && !S_ISDIR(seen.stx_mode))
        return real(file);
    key_of(&seen, key);
    if (S_ISDIR(seen.stx_mode))
        return sync_names(file, key, real);
    /* While there is such a file, syncs of files are under way and don't end. */
    while (faccessat(home, "stalled", F_OK, 0) == 0)
        usleep(1000);
    int result = real(file), error = errno;
    if (result == 0)
        keep_length(key, seen.stx_size);
    errno = error;
    return result;
}

int fsync(int file) {
    return sync_by(file, real_fsync);
}

int fdatasync(int file) {
    return sync_by(file, real_fdatasync);
}

/* RocksDB leaves out syncs of directories on btrfs, where the sync of a file keeps its name: not in this model. */
int fstatfs(int file, struct statfs *seen) {
    int result = real_fstatfs(file, seen);
    if (result == 0 && seen->f_type == BTRFS_SUPER_MAGIC)
        seen->f_type = 0;
    return result;
}
