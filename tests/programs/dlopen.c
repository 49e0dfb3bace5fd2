/* Loads the library its argument names, calls into it and back, unloads it; several times. */
#include <dlfcn.h>
#include "check.h"

KEEP int called_back(int n) { return n + 5; }
KEEP int once(const char *path, int n) {
    void *library = dlopen(path, n % 2 ? RTLD_NOW : RTLD_LAZY);
    if (!library) { fprintf(stderr, "%s\n", dlerror()); exit(1); }
    int (*run)(int, int (*)(int)) = (int (*)(int, int (*)(int)))dlsym(library, "plugin_run");
    int *calls = dlsym(library, "plugin_calls");
    CHECK(run && calls && *calls == 100);
    int result = run(n, called_back);
    CHECK(*calls == 101);
    CHECK(dlclose(library) == 0);
    return result;
}
int main(int argc, char **argv) {
    CHECK(argc == 2);
    for (int n = 0; n < 6; ++n) CHECK(once(argv[1], n) == 3 * n + 6);
    CHECK(dlopen("/nonexistent.so", RTLD_NOW) == NULL);
    puts("loaded");
    return 0;
}
