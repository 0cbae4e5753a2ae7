/* A process that needs more memory than there is, and checks every page it reads back.
 *
 *     hog KIND SIZE_MIB TOUCHES [EXTRA]
 *
 * KIND anon    anonymous memory
 *      cache   the same, and a child that reads and checks a file of EXTRA (PATH:MIB) for ever
 *      tmpfs   a file EXTRA on a tmpfs, mapped
 *      fork    half of it, shared by four children that each write a quarter's copies
 *
 * Fills, touches random pages (checks each, rewrites every second one), checks all.  Says
 * what fuseswap/cli/pressure.py says: one JSON object a line, `bad_pages` in the last.  What a
 * page holds follows from its number and its version, so there is no copy of it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, BODIES = 251, CHILDREN = 4 };

static unsigned char bodies[BODIES][PAGE];
static int same_filled[BODIES];
static unsigned char *memory, *versions;
static long pages, bad, touched;
static double began, reported;
static uint64_t state = 0x9E3779B97F4A7C15u;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    fprintf(stderr, "hog: %s: %s\n", what, strerror(errno));
    exit(2);
}

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* As make_body of pressure.py: 14 % zeros, 3 % one word, 2 % random, the rest compresses. */
static void make_bodies(void)
{
    static const char *text[] = {"objects/", "sys.path", "__name__", "utf-8\0\0\0"};
    for (int i = 0; i < BODIES; i++) {
        unsigned char *body = bodies[i];
        int kind = draw() % 100;
        same_filled[i] = kind < 17;
        if (kind < 14) {
            continue;
        } else if (kind < 17) {
            uint64_t word = draw();
            for (int at = 0; at < PAGE; at += 8)
                memcpy(body + at, &word, 8);
        } else if (kind < 19) {
            for (int at = 0; at < PAGE; at += 8) {
                uint64_t word = draw();
                memcpy(body + at, &word, 8);
            }
        } else {
            for (int at = 0; at < PAGE; at += 8) {
                int piece = draw() % 100;
                uint64_t word = 0;
                if (piece < 35)
                    word = 0x7F0000000000u + draw() % (1 << 22) * 16;
                else if (piece < 60)
                    word = draw() % 64 | draw() % 1000 << 32;
                else if (piece < 75)
                    memcpy(&word, text[draw() % 4], 8);
                else
                    at += 8;
                if (at < PAGE)
                    memcpy(body + at, &word, 8);
            }
        }
    }
}

static int body_of(long page)
{
    return (page * 31 + versions[page] * 17) % BODIES;
}

static void stamp(long page, uint64_t out[2])
{
    out[0] = page;
    out[1] = (uint64_t)versions[page] << 32 | ((page * 2654435761u + versions[page]) & 0xFFFFFFFF);
}

static void write_page(long page)
{
    uint64_t head[2];
    versions[page]++;
    int body = body_of(page);
    memcpy(memory + page * PAGE, bodies[body], PAGE);
    if (!same_filled[body]) {
        stamp(page, head);
        memcpy(memory + page * PAGE, head, 16);
    }
}

static int is_good(long page)
{
    uint64_t head[2];
    int body = body_of(page);
    unsigned char *at = memory + page * PAGE;
    if (same_filled[body])
        return !memcmp(at, bodies[body], PAGE);
    stamp(page, head);
    return !memcmp(at, head, 16) && !memcmp(at + 16, bodies[body] + 16, PAGE - 16);
}

/* One write: children share the pipe, and stdio would print what was buffered twice. */
static void say(const char *phase, double done)
{
    char line[200];
    if (now() - reported < 0.5)
        return;
    reported = now();
    int n = snprintf(line, sizeof line, "{\"phase\": \"%s\", \"done\": %.4f, \"bad_pages\": %ld}\n",
                     phase, done, bad);
    if (write(1, line, n) != n)
        exit(3);
}

static void check_all(void)
{
    for (long page = 0; page < pages; page++) {
        bad += !is_good(page);
        if (!(page & 63))
            say("verify", (double)page / pages);
    }
}

static void touch(long count, long first, long last)
{
    for (long i = 0; i < count; i++) {
        long page = draw() % pages;
        bad += !is_good(page);
        if (i & 1 && page >= first && page < last)
            write_page(page);
        touched++;
        if (!(i & 63))
            say("touch", (double)i / count);
    }
}

/* Each child writes a quarter's copies, so that all of them together take as much again. */
static void fork_children(long count)
{
    pid_t children[CHILDREN];
    for (int i = 0; i < CHILDREN; i++) {
        children[i] = fork();
        if (children[i] < 0)
            fail("fork");
        if (children[i])
            continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        long first = pages * i / CHILDREN, last = pages * (i + 1) / CHILDREN;
        state += i;
        for (long page = first; page < last; page++) {
            bad += !is_good(page);
            write_page(page);
            if (!(page & 63))
                say("fill", (double)(page - first) / (last - first));
        }
        touch(count / CHILDREN, first, last);
        check_all();
        _exit(bad > 99 ? 99 : bad);
    }
    for (int i = 0; i < CHILDREN; i++) {
        int status;
        if (waitpid(children[i], &status, 0) < 0)
            fail("waitpid");
        if (WIFSIGNALED(status)) {
            fprintf(stderr, "hog: a child died of signal %d\n", WTERMSIG(status));
            exit(4);
        }
        bad += WEXITSTATUS(status);
    }
    touched = count;
}

/* File cache: written once, then read from the disk again and again beside the hog. */
static pid_t start_reader(char *extra)
{
    static unsigned char page[PAGE];
    char *colon = strrchr(extra, ':');
    long count = atol(colon + 1) << 8;
    *colon = 0;
    int file = open(extra, O_CREAT | O_TRUNC | O_RDWR, 0600);
    if (file < 0)
        fail(extra);
    for (long i = 0; i < count; i++) {
        memcpy(page, bodies[i % BODIES], PAGE);
        memcpy(page, &i, sizeof i);
        if (write(file, page, PAGE) != PAGE)
            fail("write");
        say("fill", 0);
    }
    fsync(file);
    pid_t child = fork();
    if (child)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (long i = 0;; i = (i + 1) % count) {
        if (pread(file, page, PAGE, i * PAGE) != PAGE)
            fail("read");
        if (memcmp(page, &i, sizeof i) || memcmp(page + 8, bodies[i % BODIES] + 8, PAGE - 8))
            exit(5);
    }
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return fprintf(stderr, "usage: hog KIND SIZE_MIB TOUCHES [EXTRA]\n"), 1;
    const char *kind = argv[1];
    long count = atol(argv[3]);
    int file = -1, flags = MAP_PRIVATE | MAP_ANONYMOUS, status = 0;
    pid_t reader = 0;
    pages = atol(argv[2]) << 8;
    began = reported = now();
    make_bodies();
    if (!strcmp(kind, "fork"))
        pages /= 2;
    if (!strcmp(kind, "cache"))
        reader = start_reader(argv[4]);
    if (!strcmp(kind, "tmpfs")) {
        file = open(argv[4], O_CREAT | O_RDWR, 0600);
        if (file < 0 || ftruncate(file, pages * PAGE))
            fail(argv[4]);
        flags = MAP_SHARED;
    }
    memory = mmap(0, pages * PAGE, PROT_READ | PROT_WRITE, flags, file, 0);
    versions = calloc(pages, 1);
    if (memory == MAP_FAILED || !versions)
        fail("mmap");
    for (long page = 0; page < pages; page++) {
        write_page(page);
        if (!(page & 63))
            say("fill", (double)page / pages);
    }
    double filled = now();
    if (!strcmp(kind, "fork"))
        fork_children(count);
    else
        touch(count, 0, pages);
    double spent = now() - filled;
    check_all();
    if (reader) {
        kill(reader, SIGTERM);
        waitpid(reader, &status, 0);
        bad += WIFEXITED(status); /* it never ends by itself where all is well */
    }
    printf("{\"phase\": \"end\", \"done\": 1.0, \"pages\": %ld, \"touches\": %ld, "
           "\"fill_seconds\": %.3f, \"seconds\": %.3f, \"total_seconds\": %.3f, "
           "\"bad_pages\": %ld}\n",
           pages, touched, filled - began, spent, now() - began, bad);
    return bad != 0;
}
