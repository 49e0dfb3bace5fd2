/* Arguments on the stack, variable arguments (al counts the vector registers), alloca, results in
 * the caller's memory, and nested functions (r10 carries their frame). */
#include <alloca.h>
#include <stdarg.h>
#include <string.h>
#include "check.h"

struct block { long words[20]; };

KEEP long many(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j) {
    return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j;
}
KEEP double many_reals(double a, double b, double c, double d, double e, double f, double g, double h, double i, long double j) {
    return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + (double)(10 * j);
}
KEEP double variable(int count, ...) {
    va_list list;
    double sum = 0;
    va_start(list, count);
    for (int i = 0; i < count; ++i) sum += i % 2 ? va_arg(list, double) : (double)va_arg(list, long);
    va_end(list);
    return sum;
}
KEEP struct block by_value(struct block in, long add) {
    for (int i = 0; i < 20; ++i) in.words[i] += add;
    return in;
}
KEEP long on_stack(int size) {
    char *space = alloca(size);
    memset(space, 1, size);
    long sum = many(size, 0, 0, 0, 0, 0, 0, 0, 0, space[size - 1]);
    for (int i = 0; i < size; ++i) sum += space[i];
    return sum;
}
KEEP long apply(long (*function)(long), long n) { return function(n) + 1; }
KEEP long closure(long base) {
    __attribute__((noinline)) long add(long n) { return base += n; }
    for (long i = 0; i < 3; ++i) add(i);
    return apply(add, 10);
}
int main(void) {
    for (long i = 1; i < 5000; ++i) {
        CHECK(many(i, i, i, i, i, i, i, i, i, i) == 55 * i);
        CHECK(many_reals(i, i, i, i, i, i, i, i, i, i) == 55 * i);
        CHECK(variable(10, i, 0.5, i, 0.5, i, 0.5, i, 0.5, i, 0.5) == 5 * i + 2.5);
        struct block in = {{i, i, i}}, out = by_value(in, 3);
        CHECK(out.words[0] == i + 3 && out.words[19] == 3 && in.words[0] == i);
        CHECK(on_stack((int)i) == 2 * i + 10);
        CHECK(closure(i) == i + 14);
    }
    char text[64];
    snprintf(text, sizeof text, "%d %.1f %s %ld %.2f %d %d %d", 1, 2.5, "three", 4l, 5.25, 6, 7, 8);
    puts(text);
    return 0;
}
