/* Waits, spinning in main, for a debugger to set `go` and then step through driver(). Its first
 * argument names a file to write its process id to. */
#include <unistd.h>
#include "check.h"

volatile int go;
KEEP int leaf(int n) { return n + 1; }
KEEP int saving(int a, int b, int c, int d) { int x = leaf(a), y = leaf(b); return x * y + leaf(c + d); }
KEEP int outer(int n) { return leaf(n) * 2 + saving(n, 2, 3, 4); }
KEEP int tail(int n) { return outer(n + 1); }
KEEP int driver(void) { int r = outer(1); return r + tail(1); }
int main(int argc, char **argv) {
    CHECK(argc == 2);
    FILE *file = fopen(argv[1], "w");
    CHECK(file && fprintf(file, "%d\n", getpid()) > 0 && fclose(file) == 0);
    alarm(120);
    while (!go) __builtin_ia32_pause();
    int r = driver();
    CHECK(r == 2 * 2 + 2 * 3 + 8 + 3 * 2 + 3 * 3 + 8);
    puts("stepped");
    return 0;
}
