/* A process that did nothing wrong: holds some memory, and checks it a little at a time.
 *
 *     bystander MIB
 *
 * It ends with 0 on SIGTERM, with 1 where a page was not as it was written.  Neither the OOM
 * killer nor a refused read may end it.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { WORDS = 4096 / sizeof(unsigned long), PAGES_A_ROUND = 32, ROUND_US = 200000 };

static volatile sig_atomic_t ended;

static void end(int number)
{
    (void)number;
    ended = 1;
}

static unsigned long word_of(long page, int at, unsigned long version)
{
    return at & 3 ? (unsigned long)page << 8 | version : version * 2654435761u + page * 131 + at;
}

int main(int argc, char **argv)
{
    long pages = (argc > 1 ? atol(argv[1]) : 4) << 8;
    unsigned long (*memory)[WORDS] = malloc(pages * sizeof *memory);
    unsigned char *versions = calloc(pages, 1);
    if (!memory || !versions)
        return 2;
    signal(SIGTERM, end);
    for (long page = 0; page < pages; page++)
        for (int at = 0; at < (int)WORDS; at++)
            memory[page][at] = word_of(page, at, 0);
    for (long page = 0; !ended; page = (page + 1) % pages) {
        for (int at = 0; at < (int)WORDS; at++)
            if (memory[page][at] != word_of(page, at, versions[page])) {
                fprintf(stderr, "bystander: page %ld, word %d is bad\n", page, at);
                return 1;
            }
        versions[page]++;
        for (int at = 0; at < (int)WORDS; at++)
            memory[page][at] = word_of(page, at, versions[page]);
        if (page % PAGES_A_ROUND == 0)
            usleep(ROUND_US);
    }
    return 0;
}
