/* Preloaded before the system's library: ends the process as SIGKILL does, at its n-th operation
   that changes files. With KILL_HALF a write that is hit is half done before. At a normal end the
   number of operations is written to the file that KILL_COUNT names. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long done;

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : -1;
}

/* Whether this operation is the one. */
static int hit(void) {
    return atomic_fetch_add(&done, 1) + 1 == number("KILL_AT");
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((destructor)) static void told(void) {
    const char *path = getenv("KILL_COUNT");
    long count = done;
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file) {
        fprintf(file, "%ld\n", count);
        fclose(file);
    }
}

/* Only openings that write count. */
static mode_t opening(int flags, va_list more) {
    if ((flags & O_ACCMODE) != O_RDONLY && hit()) die();
    return flags & O_CREAT ? va_arg(more, mode_t) : 0;
}

#define OPEN(name)                                      \
    int name(const char *path, int flags, ...) {        \
        va_list more;                                   \
        va_start(more, flags);                          \
        mode_t mode = opening(flags, more);             \
        va_end(more);                                   \
        return NEXT(name)(path, flags, mode);           \
    }
OPEN(open)
OPEN(open64)

ssize_t write(int fd, const void *data, size_t size) {
    struct stat file;
    if (fstat(fd, &file) == 0 && S_ISREG(file.st_mode) && hit()) {
        if (getenv("KILL_HALF")) NEXT(write)(fd, data, size / 2);
        die();
    }
    return NEXT(write)(fd, data, size);
}

#define BEFORE(type, name, parameters, arguments)       \
    type name parameters {                              \
        if (hit()) die();                               \
        return NEXT(name) arguments;                    \
    }
BEFORE(int, rename, (const char *from, const char *to), (from, to))
BEFORE(int, unlink, (const char *path), (path))
BEFORE(int, mkdir, (const char *path, mode_t mode), (path, mode))
BEFORE(int, fsync, (int fd), (fd))
BEFORE(int, ftruncate64, (int fd, off64_t size), (fd, size))
