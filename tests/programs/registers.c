/* Calls an assembly function with every register full: all reach the callee (registers.S checks
 * them there) and all but rax come back. */
#include "check.h"

long fill_call_compare(void); /* the number of registers that a call changed */
long seen_wrong(void);        /* the number that arrived changed in the callee */
int main(void) {
    for (int i = 0; i < 20000; ++i) {
        CHECK(fill_call_compare() == 0);
        CHECK(seen_wrong() == 0);
    }
    puts("intact");
    return 0;
}
