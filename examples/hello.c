/* A small program to look at: main greets by name, then counts in a roundabout way. */
#include <stdio.h>
#include <string.h>

static int fibonacci(int n)
{
	return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static void greet(const char *name)
{
	if (strlen(name) > 0)
		puts(name);
}

int main(int argc, char **argv)
{
	greet(argc > 1 ? argv[1] : "hello, world");
	return fibonacci(4) == 3 ? 0 : 1;
}
