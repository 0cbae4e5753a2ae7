/* Says where threads of a program are in the kernel, where they do not sleep and get nowhere.
 *
 *     waiters NAME
 *
 * One JSON object a line on standard output, with the stack, once for each time that a thread used
 * no user time in three looks and was never asleep.  Who waits for memory runs now and then, so the
 * state alone does not tell.  It is locked and allocates nothing but what /proc takes.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_US = 500000, LOOKS = 3, THREADS = 64 };

static struct {
    int thread, looks;
    unsigned long used;
} seen[THREADS];
static char path[300], text[4096], said[8192];

static int read_text(const char *name)
{
    int file = open(name, O_RDONLY), size = -1;
    if (file >= 0) {
        size = read(file, text, sizeof text - 1);
        close(file);
    }
    text[size < 0 ? 0 : size] = 0;
    return size > 0;
}

/* In how many looks a thread has got nowhere. */
static int looks_of(int thread, int waits, unsigned long used)
{
    int free = -1;
    for (int i = 0; i < THREADS; i++) {
        if (seen[i].thread == thread) {
            if (!waits || seen[i].used != used)
                seen[i].looks = 0;
            seen[i].used = used;
            return waits ? ++seen[i].looks : (seen[i].thread = 0);
        }
        if (!seen[i].thread)
            free = i;
    }
    if (waits && free >= 0) {
        seen[free].thread = thread;
        seen[free].looks = 1;
        seen[free].used = used;
    }
    return 0;
}

static void look(int process, int thread)
{
    struct timespec now;
    char state = 0;
    unsigned long used = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", process, thread);
    if (!read_text(path))
        return;
    sscanf(strrchr(text, ')') + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu", &state, &used);
    if (looks_of(thread, state == 'D' || state == 'R', used) != LOOKS)
        return;
    snprintf(path, sizeof path, "/proc/%d/task/%d/stack", process, thread);
    read_text(path);
    clock_gettime(CLOCK_BOOTTIME, &now);
    int end = sprintf(said, "{\"event\": \"waits\", \"uptime\": %ld, \"process\": %d, \"thread\": %d,"
                            " \"stack\": \"", (long)now.tv_sec, process, thread);
    for (char *at = text; *at; at++)
        said[end++] = *at == '\n' ? ';' : *at;
    end += sprintf(said + end, "\"}\n");
    if (write(1, said, end) != end)
        exit(1);
}

static void look_at_all(const char *name)
{
    DIR *all = opendir("/proc");
    for (struct dirent *one; all && (one = readdir(all));) {
        int process = atoi(one->d_name);
        snprintf(path, sizeof path, "/proc/%d/comm", process);
        if (!process || !read_text(path) || strncmp(text, name, strlen(name)))
            continue;
        snprintf(path, sizeof path, "/proc/%d/task", process);
        DIR *threads = opendir(path);
        for (struct dirent *thread; threads && (thread = readdir(threads));)
            if (isdigit(thread->d_name[0]))
                look(process, atoi(thread->d_name));
        if (threads)
            closedir(threads);
    }
    if (all)
        closedir(all);
}

int main(int argc, char **argv)
{
    if (argc != 2 || mlockall(MCL_CURRENT | MCL_FUTURE)) {
        perror("waiters");
        return 1;
    }
    for (;; usleep(LOOK_US))
        look_at_all(argv[1]);
}
