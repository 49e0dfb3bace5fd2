// Exceptions through traced frames: plain, rethrown, nested, with destructors, out of function-try
// blocks, carried between threads, and by four threads at once.
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>
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
    try {
        return middle(depth);
    } catch (const std::runtime_error &error) {
        CHECK(std::string(error.what()) == "thrown");
        return destroyed;
    }
}
extern "C" KEEP int rethrower() {
    try {
        try { middle(3); } catch (...) { throw; }
    } catch (const std::exception &) { return 1; }
    return 0;
}
extern "C" KEEP int nester() {
    try {
        try { middle(2); } catch (...) { std::throw_with_nested(std::logic_error("outer")); }
    } catch (const std::exception &outer) {
        try { std::rethrow_if_nested(outer); } catch (const std::runtime_error &) { return 1; }
    }
    return 0;
}
struct Cleaner { ~Cleaner() { CHECK(catcher(1) == 3); } };
extern "C" KEEP int throw_in_destructor() {
    try { Cleaner cleaner; thrower(-1); } catch (...) { return 1; }
    return 0;
}
struct Member {
    int value;
    KEEP Member() try : value(thrower(-1)) {} catch (...) { throw 7; }
};
extern "C" KEEP int function_try() {
    try { Member member; return member.value; } catch (int n) { return n; }
}
extern "C" KEEP int across_threads() {
    std::exception_ptr carried;
    std::thread([&] { try { middle(4); } catch (...) { carried = std::current_exception(); } }).join();
    try { std::rethrow_exception(carried); } catch (const std::runtime_error &) { return 1; }
    return 0;
}
int main() {
    CHECK(catcher(4) == 6);
    CHECK(rethrower() && nester() && throw_in_destructor() && across_threads());
    CHECK(function_try() == 7);
    std::vector<std::thread> threads;
    std::vector<int> sums(4);
    for (int &sum : sums)
        threads.emplace_back([&sum] { for (int i = 0; i < 200; ++i) sum += catcher(i % 7); });
    for (auto &thread : threads) thread.join();
    for (int sum : sums) printf("%d\n", sum);
}
