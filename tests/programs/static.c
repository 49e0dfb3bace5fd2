/* Everything in one file: the C library's functions are the program's own. Also built stripped. */
#include <math.h>
#include <pthread.h>
#include <string.h>
#include "check.h"

KEEP int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
KEEP void *worker(void *seed) {
    int numbers[500];
    unsigned state = (unsigned)(long)seed;
    for (int i = 0; i < 500; ++i) numbers[i] = (int)((state = state * 1103515245u + 12345u) >> 8);
    qsort(numbers, 500, sizeof *numbers, compare);
    for (int i = 1; i < 500; ++i) CHECK(numbers[i - 1] <= numbers[i]);
    return strdup(numbers[0] < numbers[499] ? "sorted" : "equal");
}
int main(void) {
    pthread_t threads[2];
    for (long i = 0; i < 2; ++i) CHECK(pthread_create(&threads[i], NULL, worker, (void *)i) == 0);
    for (int i = 0; i < 2; ++i) {
        void *text;
        CHECK(pthread_join(threads[i], &text) == 0);
        printf("%s %.3f\n", (char *)text, sin(i + 1.0));
        free(text);
    }
    return 0;
}
