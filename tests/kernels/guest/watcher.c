/* Prints memory and every task's stack where nothing goes on any more.
 *
 *     watcher SECONDS <PIPE
 *
 * Whoever makes progress writes a byte to the pipe.  After SECONDS without one, memory,
 * blocked tasks and, 10 s later, all tasks are written to the console, at most five times.  It is
 * locked and SCHED_RR, and allocates nothing once it runs, so it works where the machine stands
 * still.
 */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static char bytes[256];

int main(int argc, char **argv)
{
    int patience_ms = (argc > 1 ? atoi(argv[1]) : 30) * 1000, left = 5;
    struct sched_param priority = {.sched_priority = 50};
    struct pollfd pipe = {.fd = 0, .events = POLLIN};
    int trigger = open("/proc/sysrq-trigger", O_WRONLY);
    if (trigger < 0 || mlockall(MCL_CURRENT | MCL_FUTURE) ||
        sched_setscheduler(0, SCHED_RR, &priority)) {
        perror("watcher");
        return 1;
    }
    for (;;) {
        if (poll(&pipe, 1, patience_ms)) {
            if (read(0, bytes, sizeof bytes) <= 0)
                return 0;
        } else if (left-- > 0) {
            if (write(trigger, "m", 1) < 0 || write(trigger, "w", 1) < 0)
                return 1;
            if (!poll(&pipe, 1, 10000) && write(trigger, "t", 1) < 0)
                return 1;
        }
    }
}
