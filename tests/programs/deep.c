/* Recursion as deep as its argument says, within the usual 8 MB of stack. */
#include "check.h"

KEEP long down(long depth) { return depth == 0 ? 0 : down(depth - 1) + 1; }
int main(int argc, char **argv) {
    long depth = argc > 1 ? atol(argv[1]) : 100;
    CHECK(down(depth) == depth);
    printf("%ld\n", depth);
    return 0;
}
