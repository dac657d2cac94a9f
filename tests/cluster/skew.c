/* A wrong clock for one process: LD_PRELOAD=skew.so SKEW=file, the file holding nanoseconds as a 64-bit integer.
 *
 * Every reading of the wall clock is off by that much, live, in whatever library it is made: so certificates are judged
 * by the wrong clock, too, as on a machine whose clock is wrong. The clocks that only count go on as they are.
 * Needs no header and no particular C library: it is built with -nostdlib, and what it calls is found in the process.
 * Linux with 64-bit longs only.
 */
struct timespec { long sec, nsec; };
struct timeval { long sec, usec; };

extern long syscall(long number, ...);
extern char *getenv(const char *name);
extern int open(const char *path, int flags, ...);
extern void *mmap(void *at, unsigned long length, int protection, int flags, int file, long offset);

#ifdef __aarch64__
#define CLOCK_GETTIME 113
#else
#define CLOCK_GETTIME 228
#endif
#define SECOND 1000000000L

static long skew(void)
{
    static volatile long *mapped;
    if (!mapped) {
        const char *path = getenv("SKEW");
        int file = path ? open(path, 0) : -1;
        void *found = file < 0 ? (void *)-1 : mmap(0, 8, 1, 1, file, 0);
        if (found == (void *)-1)
            return 0;
        mapped = found;
    }
    return *mapped;
}

int clock_gettime(int clock, struct timespec *now)
{
    long result = syscall(CLOCK_GETTIME, (long)clock, now);
    if (result == 0 && (clock == 0 || clock == 5)) { /* CLOCK_REALTIME, and the coarse one */
        long total = now->nsec + skew();
        long seconds = total / SECOND, rest = total % SECOND;
        if (rest < 0) {
            rest += SECOND;
            seconds--;
        }
        now->sec += seconds;
        now->nsec = rest;
    }
    return (int)result;
}

int gettimeofday(struct timeval *now, void *zone)
{
    struct timespec exact;
    (void)zone;
    if (clock_gettime(0, &exact))
        return -1;
    now->sec = exact.sec;
    now->usec = exact.nsec / 1000;
    return 0;
}

long time(long *also)
{
    struct timespec exact;
    if (clock_gettime(0, &exact))
        return -1;
    if (also)
        *also = exact.sec;
    return exact.sec;
}
