/* Says every few seconds what fuseswap counts: what led to a standstill is gone with the guest.
 *
 *     reporter SECONDS LOG DIRECTORY NAME...
 *
 * One JSON object a line on standard output; nothing where the files are not there.  And what is
 * new in LOG, which the runner passes on only while it gets memory itself.  It is locked and
 * allocates nothing, and it is a process of its own: a read waits where nobody serves.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static char path[256], line[2048], value[32];

static int add(char *to, const char *directory, const char *name)
{
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int file = open(path, O_RDONLY);
    if (file < 0)
        return 0;
    int size = read(file, value, sizeof value - 1);
    close(file);
    if (size <= 0)
        return 0;
    value[size] = 0;
    value[strcspn(value, "\n")] = 0;
    return snprintf(to, line + sizeof line - to, ", \"%s\": %s", name, value);
}

/* A new line of the log, as long as it fits. */
static void pass_on(const char *log)
{
    static off_t at;
    int file = open(log, O_RDONLY), end;
    if (file < 0)
        return;
    int size = pread(file, path, sizeof path - 1, at);
    close(file);
    if (size <= 0)
        return;
    at += size;
    path[size] = 0;
    for (char *one = path; *one; one++)
        if (*one == '\n' || *one == '"' || *one == '\\')
            *one = ';';
    end = snprintf(line, sizeof line, "{\"event\": \"logged\", \"text\": \"%s\"}\n", path);
    if (write(1, line, end) != end)
        exit(1);
}

int main(int argc, char **argv)
{
    if (argc < 4 || mlockall(MCL_CURRENT | MCL_FUTURE)) {
        perror("reporter");
        return 1;
    }
    for (;;) {
        struct timespec now;
        sleep(atoi(argv[1]));
        pass_on(argv[2]);
        clock_gettime(CLOCK_BOOTTIME, &now);
        int head = sprintf(line, "{\"event\": \"counted\", \"uptime\": %ld", (long)now.tv_sec);
        int end = head;
        for (int i = 4; i < argc && end < (int)sizeof line - 128; i++)
            end += add(line + end, argv[3], argv[i]);
        if (end == head)
            continue;
        end += sprintf(line + end, "}\n");
        if (write(1, line, end) != end)
            return 1;
    }
}
