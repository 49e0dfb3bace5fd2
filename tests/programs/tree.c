/* A small, fixed tree of calls for filters, with pauses that tell long calls from short ones. */
#include <unistd.h>
#include "check.h"

KEEP int leaf(int n) { return n + 1; }
KEEP int slow_leaf(int n) { usleep(60000); return n + 1; }
KEEP int branch(int n) { return leaf(n) + leaf(n + 1); }
KEEP int slow_branch(int n) { return leaf(n) + slow_leaf(n) + branch(n); }
KEEP int http_parse(int n) { return branch(n) + leaf(n); }
KEEP int http_serve(int n) { return http_parse(n) + slow_branch(n) + leaf(n); }
KEEP int recursive(int n) { return n ? recursive(n - 1) + branch(n) : leaf(n); }
KEEP int idle(int n) { return http_parse(n) + recursive(2); }
int main(void) {
    int sum = 0;
    for (int i = 0; i < 3; ++i) sum += http_serve(i) + idle(i) + recursive(3);
    printf("%d\n", sum);
    return 0;
}
