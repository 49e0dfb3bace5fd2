// Exceptions with LLVM's unwinder and libc++: built by clang++ only.
#include <stdexcept>
#include <thread>
#include <vector>
#include <cstdio>
#include "check.h"

static thread_local int destroyed;
struct Guard { ~Guard() { ++destroyed; } };
extern "C" KEEP int thrower(int n) {
    Guard guard;
    if (n < 0) throw std::runtime_error("thrown");
    return n;
}
extern "C" KEEP int middle(int depth) {
    Guard guard;
    return (depth ? middle(depth - 1) : thrower(-1)) + 1;
}
extern "C" KEEP int catcher(int depth) {
    destroyed = 0;
    try { try { middle(depth); } catch (...) { throw; } } catch (const std::runtime_error &) { return destroyed; }
    return -1;
}
int main() {
    std::vector<std::thread> threads;
    std::vector<int> sums(4);
    for (int &sum : sums)
        threads.emplace_back([&sum] { for (int i = 0; i < 200; ++i) sum += catcher(i % 7); });
    for (auto &thread : threads) thread.join();
    for (int sum : sums) printf("%d\n", sum);
}
