/* Preloaded: everything in the process is traced by the library, entries and exits, from before main
 * to the end. */
#include <sledge.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// The compiler takes getppid for a leaf that changes nothing of this file.
static volatile int entries, exits;

static bool enter(uint64_t function, uint64_t parent, void *data, sledge_registers *registers, uint64_t *scratch) {
    (void)data, (void)registers;
    entries++;
    scratch[0] = function;
    scratch[1] = parent;
    return true;
}

static void leave(uint64_t function, uint64_t parent, void *data, sledge_results *results, uint64_t *scratch) {
    (void)data, (void)results;
    exits++;
    if (scratch[0] != function || scratch[1] != parent)
        abort();
}

static void entry(uint64_t function, uint64_t parent, void *data, sledge_registers *registers) {
    (void)function, (void)parent, (void)data, (void)registers;
    entries++;
    exits++; // none are seen
}

__attribute__((constructor)) static void begin(void) {
    sledge_ops *ops = sledge_register_call(enter, leave, NULL, SLEDGE_RECURSION, NULL);
    // With an unwinder of its own, hidden in the program, no return can be hooked.
    if (ops && !sledge_wanted(ops))
        ops = sledge_register(entry, NULL, SLEDGE_RECURSION, NULL);
    if (!ops || sledge_wanted(ops) < 100) {
        fprintf(stderr, "%s\n", sledge_error());
        abort();
    }
    entries = exits = 0;
    getppid();
    if (entries != 1 || exits != 1) {
        fprintf(stderr, "%d entries and %d exits of one call\n", entries, exits);
        abort();
    }
}
