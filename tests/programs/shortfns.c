/* Calls the awkward functions of shortfns.S and checks what they return. */
#include "check.h"

void one(void);
long two(long), three(long), four(long), five(long), six(long);
void packed_one(void);
long packed_two(long), packed_three(long), packed_four(long);
long loop_to_entry(long), loop_into_patch(long), jump_first(long), jump_table_first(long), jcc_early(long), jrcxz_first(long);
long call_first(long), call_memory_first(long), call_next(void), cmp_first(void), lea_first(void), marked(long), marked_one(long), falls(long), fallen(long);
long pushes(long), long_nop(long), sub_stack(long), load_got(void), last(long);
double sse_first(void);

int main(void) {
    for (long i = 1; i <= 300; ++i) {
        one(), packed_one();
        CHECK(two(i) == 1 && three(i) == 0 && four(i) == i && five(i) == i + 1 && six(i) == 6);
        CHECK(packed_two(i) == 1 && packed_three(i) == 0 && packed_four(i) == i);
        CHECK(loop_to_entry(i) == 0 && loop_into_patch(i) == 2 * i);
        CHECK(jump_first(i) == i + 1 && jump_table_first(i) == i + 1);
        CHECK(jcc_early(i) == 1 && jcc_early(0) == 0 && jrcxz_first(i) == 1);
        CHECK(call_first(i) == i + 2 && call_memory_first(i) == i + 2 && call_next() == 1);
        CHECK(cmp_first() == 1 && lea_first() == 77 && sse_first() == 2.5 && load_got() == 77);
        CHECK(marked(i) == i && marked_one(i) == 1 && falls(i) == i + 2 && fallen(i) == i + 1);
        CHECK(pushes(i) == i && long_nop(i) == i && sub_stack(i) == i && last(i) == i + 9);
    }
    puts("short");
    return 0;
}
