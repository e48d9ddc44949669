/* Preloaded into a store: keeps a journal from which everything that was written and not synced can be undone.
 *
 * kill -9 cannot see a missing sync, because the page cache survives it. With the journal a test can take back any part
 * of what a power cut could have lost. Only fsync and fdatasync count: sync_file_range, which sled uses, reaches no
 * disk. A rename is taken to last: whoever needs it to syncs the folder, which is not looked at here. Files are named by
 * UNSYNCED_UNDER; the journal is UNSYNCED_JOURNAL. Records: kind, path, offset, old bytes; of a rename the new path.
 *
 * UNSYNCED_HOLD makes the disk slow: a sync takes until another thread has written, or so many milliseconds. Writes that
 * can be under way at the same time then are, however fast or busy the machine is.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t written = PTHREAD_COND_INITIALIZER;
static uint64_t writes;
static int journal = -1;

/* The path of a watched file in `path`; 0 for any other. */
static int watched(int fd, char *path, size_t size) {
  const char *under = getenv("UNSYNCED_UNDER");
  char link[64];
  ssize_t length;
  if (!under) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  length = readlink(link, path, size - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return strncmp(path, under, strlen(under)) == 0;
}

/* Called with the lock held. */
static void record(uint32_t kind, const char *path, uint64_t offset, const void *old, uint32_t length) {
  uint32_t name = strlen(path);
  size_t total = 20 + name + length;
  char *out = malloc(total);
  ssize_t done;
  if (journal < 0) journal = open(getenv("UNSYNCED_JOURNAL"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  memcpy(out, &kind, 4);
  memcpy(out + 4, &name, 4);
  memcpy(out + 8, &length, 4);
  memcpy(out + 12, &offset, 8);
  memcpy(out + 20, path, name);
  memcpy(out + 20 + name, old, length);
  done = write(journal, out, total);
  if (done != (ssize_t)total) abort();
  free(out);
}

enum { WRITE = 1, SYNC_BEGINS = 2, SYNC_ENDS = 3, RENAME = 4 };

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
  static ssize_t (*next)(int, const void *, size_t, off64_t);
  char path[4096];
  ssize_t done;
  if (!next) next = dlsym(RTLD_NEXT, "pwrite64");
  if (!watched(fd, path, sizeof path)) return next(fd, bytes, count, offset);
  pthread_mutex_lock(&lock);
  /* What lies beyond the end of the file reads as zeros after a power cut. */
  char *old;
  /* Aligned, as the log's files want it. */
  if (posix_memalign((void **)&old, 4096, count + 1) != 0) abort();
  memset(old, 0, count);
  if (pread(fd, old, count, offset) < 0) abort();
  record(WRITE, path, offset, old, count);
  free(old);
  done = next(fd, bytes, count, offset);
  writes++;
  pthread_cond_broadcast(&written);
  pthread_mutex_unlock(&lock);
  return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) { return pwrite64(fd, bytes, count, offset); }

/* What is cut off is replaced, too: by nothing. */
int ftruncate64(int fd, off64_t length) {
  static int (*next)(int, off64_t);
  char path[4096];
  struct stat is;
  int done;
  if (!next) next = dlsym(RTLD_NEXT, "ftruncate64");
  if (!watched(fd, path, sizeof path)) return next(fd, length);
  pthread_mutex_lock(&lock);
  if (fstat(fd, &is) < 0) abort();
  if (is.st_size > length) {
    char *old = malloc(is.st_size - length);
    if (pread(fd, old, is.st_size - length, length) != is.st_size - length) abort();
    record(WRITE, path, length, old, is.st_size - length);
    free(old);
  }
  done = next(fd, length);
  pthread_mutex_unlock(&lock);
  return done;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

/* Called with the lock held, which it gives up meanwhile. */
static void hold(void) {
  const char *milliseconds = getenv("UNSYNCED_HOLD");
  uint64_t before = writes;
  struct timespec until;
  if (!milliseconds) return;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_nsec += atol(milliseconds) * 1000000L;
  until.tv_sec += until.tv_nsec / 1000000000L;
  until.tv_nsec %= 1000000000L;
  while (writes == before && pthread_cond_timedwait(&written, &lock, &until) == 0) {
  }
}

static int synced(int fd, int (*next)(int)) {
  static uint64_t numbers;
  char path[4096];
  uint64_t number;
  int done;
  if (!watched(fd, path, sizeof path)) return next(fd);
  pthread_mutex_lock(&lock);
  number = ++numbers;
  record(SYNC_BEGINS, path, number, "", 0);
  hold();
  pthread_mutex_unlock(&lock);
  done = next(fd);
  pthread_mutex_lock(&lock);
  if (done == 0) record(SYNC_ENDS, path, number, "", 0);
  pthread_mutex_unlock(&lock);
  return done;
}

int fsync(int fd) {
  static int (*next)(int);
  if (!next) next = dlsym(RTLD_NEXT, "fsync");
  return synced(fd, next);
}

int fdatasync(int fd) {
  static int (*next)(int);
  if (!next) next = dlsym(RTLD_NEXT, "fdatasync");
  return synced(fd, next);
}

/* Noted before it is done: what was written to a file that is not where the journal has it is left alone. */
int rename(const char *from, const char *to) {
  static int (*next)(const char *, const char *);
  const char *under = getenv("UNSYNCED_UNDER");
  int done;
  if (!next) next = dlsym(RTLD_NEXT, "rename");
  if (!under || strncmp(from, under, strlen(under)) != 0) return next(from, to);
  pthread_mutex_lock(&lock);
  record(RENAME, from, 0, to, strlen(to));
  done = next(from, to);
  pthread_mutex_unlock(&lock);
  return done;
}
