/* Without symbols: functions come from the unwind table. */
#include "check.h"

static KEEP int leaf(int n) { return n ^ 5; }
static KEEP int middle(int n) { return leaf(n) + leaf(n + 1); }
static KEEP int outer(int n) { int sum = 0; for (int i = 0; i < n; ++i) sum += middle(i); return sum; }
int main(void) {
    printf("%d\n", outer(1000));
    return 0;
}
