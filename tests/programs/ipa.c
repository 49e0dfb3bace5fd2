/* A caller that knows which registers its callees leave alone (gcc -fipa-ra) keeps values in
 * caller-saved ones across the calls. The checksum is right only when all survive. */
#include "check.h"

#define LOCAL static __attribute__((noinline, noclone))
static volatile long sink;
static volatile double real_sink;
LOCAL void touch(long n) { sink = n; }
LOCAL void touch_real(double x) { real_sink = x; }
LOCAL long tiny(long n) { return n + 1; }

KEEP long integers(long s) {
    long a = s * 3, b = s * 5, c = s * 7, d = s * 11, e = s * 13, f = s * 17, g = s * 19, h = s * 23;
    long i = s * 29, j = s * 31, k = s * 37, l = s * 41;
    touch(a);
    a += b; b ^= c; c += d; d ^= e; e += f; f ^= g; g += h; h ^= i; i += j; j ^= k; k += l; l ^= a;
    touch(b);
    long r = tiny(a);
    return r + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j + 11 * k + 12 * l;
}
KEEP long integers_alone(long s) {
    long a = s * 3, b = s * 5, c = s * 7, d = s * 11, e = s * 13, f = s * 17, g = s * 19, h = s * 23;
    long i = s * 29, j = s * 31, k = s * 37, l = s * 41;
    a += b; b ^= c; c += d; d ^= e; e += f; f ^= g; g += h; h ^= i; i += j; j ^= k; k += l; l ^= a;
    return a + 1 + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j + 11 * k + 12 * l;
}
KEEP double reals(double s) {
    double a = s + 1, b = s + 2, c = s + 3, d = s + 4, e = s + 5, f = s + 6, g = s + 7, h = s + 8, i = s + 9, j = s + 10;
    touch_real(a);
    a *= b; b += c; c *= d; d += e; e *= f; f += g; g *= h; h += i; i *= j; j += a;
    touch_real(b);
    return a + b * 2 + c * 3 + d * 4 + e * 5 + f * 6 + g * 7 + h * 8 + i * 9 + j * 10;
}
KEEP double reals_alone(double s) {
    double a = s + 1, b = s + 2, c = s + 3, d = s + 4, e = s + 5, f = s + 6, g = s + 7, h = s + 8, i = s + 9, j = s + 10;
    a *= b; b += c; c *= d; d += e; e *= f; f += g; g *= h; h += i; i *= j; j += a;
    return a + b * 2 + c * 3 + d * 4 + e * 5 + f * 6 + g * 7 + h * 8 + i * 9 + j * 10;
}
int main(void) {
    for (long s = 0; s < 20000; ++s) {
        CHECK(integers(s) == integers_alone(s));
        CHECK(reals(s) == reals_alone(s));
    }
    puts("kept");
    return 0;
}
