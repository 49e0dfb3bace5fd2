/* Every way that a value comes back from a call, 200 000 times each. */
#include <complex.h>
#include <stdbool.h>
#include <string.h>
#if defined(__AVX__) || defined(__AVX512F__)
#include <immintrin.h>
#endif
#include "check.h"

struct two_doubles { double a, b; };
struct two_longs { long a, b; };
struct mixed { long a; double b; };
struct floats { float a, b, c; };
struct big { long a[9]; };
union word { double d; long l; };

KEEP double complex dcomplex(double x) { return x + (x + 1) * I; }
KEEP float complex fcomplex(float x) { return x + (x + 1) * I; }
KEEP long double longdouble(double x) { return (long double)x / 3; }
KEEP long double complex ldcomplex(double x) { return (long double)x / 3 + (long double)x / 7 * I; }
KEEP struct two_doubles two_doubles(double x) { return (struct two_doubles){x, -x}; }
KEEP struct two_longs two_longs(long x) { return (struct two_longs){x, ~x}; }
KEEP struct mixed mixed(long x) { return (struct mixed){x, x / 2.0}; }
KEEP struct floats floats(float x) { return (struct floats){x, x + 1, x + 2}; }
KEEP struct big big(long x) { struct big r; for (int i = 0; i < 9; ++i) r.a[i] = x + i; return r; }
KEEP __int128 int128(long x) { return ((__int128)x << 64) | (unsigned long)~x; }
KEEP float single(float x) { return x * 0.5f; }
KEEP double real(double x) { return x * 0.25; }
KEEP bool boolean(long x) { return x & 1; }
KEEP signed char byte(long x) { return (signed char)x; }
KEEP union word word(long x) { return (union word){.l = x}; }
#ifdef __AVX__
KEEP __m256d four_doubles(double x) { return _mm256_set_pd(x, x + 1, x + 2, x + 3); }
#endif
#ifdef __AVX512F__
KEEP __m512d eight_doubles(double x) { return _mm512_set_pd(x, x + 1, x + 2, x + 3, x + 4, x + 5, x + 6, x + 7); }
#endif

int main(void) {
    for (long i = 0; i < 200000; ++i) {
        double complex dc = dcomplex(i);
        CHECK(creal(dc) == i && cimag(dc) == i + 1);
        float complex fc = fcomplex(i);
        CHECK(crealf(fc) == i && cimagf(fc) == i + 1);
        CHECK(longdouble(i) == (long double)i / 3);
        long double complex ldc = ldcomplex(i);
        CHECK(creall(ldc) == (long double)i / 3 && cimagl(ldc) == (long double)i / 7);
        struct two_doubles td = two_doubles(i);
        CHECK(td.a == i && td.b == -(double)i);
        struct two_longs tl = two_longs(i);
        CHECK(tl.a == i && tl.b == ~i);
        struct mixed m = mixed(i);
        CHECK(m.a == i && m.b == i / 2.0);
        struct floats f = floats(i);
        CHECK(f.a == i && f.b == i + 1 && f.c == i + 2);
        struct big b = big(i);
        for (int k = 0; k < 9; ++k) CHECK(b.a[k] == i + k);
        __int128 wide = int128(i);
        CHECK((long)(wide >> 64) == i && (long)wide == ~i);
        CHECK(single(i) == i * 0.5f && real(i) == i * 0.25);
        CHECK(boolean(i) == (i & 1) && byte(i) == (signed char)i && word(i).l == i);
#ifdef __AVX__
        double four[4];
        _mm256_storeu_pd(four, four_doubles(i));
        for (int k = 0; k < 4; ++k) CHECK(four[k] == i + 3 - k);
#endif
#ifdef __AVX512F__
        double eight[8];
        _mm512_storeu_pd(eight, eight_doubles(i));
        for (int k = 0; k < 8; ++k) CHECK(eight[k] == i + 7 - k);
#endif
    }
    puts("returned");
    return 0;
}
