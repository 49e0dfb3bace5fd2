// The same from C++: a lambda that captures nothing is a callback, and exceptions go through traced
// functions.
#include <cstdio>
#include <sledge.h>
#include <stdexcept>

__attribute__((noinline)) int btree_find(int key) {
    if (key > 2)
        throw std::out_of_range("no such key");
    return key;
}

int main() {
    int entries = 0, exits = 0;
    struct Counts {
        int *entries, *exits;
    } counts{&entries, &exits};
    sledge_ops *ops = sledge_register_call(
        [](uint64_t, uint64_t, void *data, sledge_registers *, uint64_t *) {
            return ++*static_cast<Counts *>(data)->entries > 0;
        },
        [](uint64_t, uint64_t, void *data, sledge_results *, uint64_t *) {
            ++*static_cast<Counts *>(data)->exits;
        },
        &counts, 0, "btree_find");
    if (!ops) {
        std::fprintf(stderr, "%s\n", sledge_error());
        return 1;
    }
    int caught = 0;
    for (int key = 0; key < 6; key++) {
        try {
            btree_find(key);
        } catch (const std::out_of_range &) {
            ++caught;
        }
    }
    sledge_unregister(ops);
    std::printf("%d entries, %d exits, %d exceptions\n", entries, exits, caught);
}
