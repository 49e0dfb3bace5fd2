/* Built with the compilers' own room for tracers: NOPs at every entry. */
#include "check.h"

KEEP int leaf(int n) { return n + 1; }
KEEP int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
KEEP int outer(int n) { return leaf(n) + fib(n); }
int main(void) {
    CHECK(outer(15) == 16 + 610);
    puts("patchable");
    return 0;
}
