/*
 * The other implementation, for the tests: reads rules in numbers and names, lets libseccomp compile them, writes the program.
 * Lines: "default ACTION", "arch TOKEN" (the native one is removed unless named), "rule ACTION NAME N (INDEX OP A B)*".
 * Names that libseccomp does not know are listed on stderr, one a line, and skipped.
 */
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(int result, const char *what)
{
	if (result < 0) {
		fprintf(stderr, "! %s: %s\n", what, strerror(-result));
		exit(1);
	}
}

int main(void)
{
	char word[64], name[64];
	uint32_t number;
	int native = 0;
	scmp_filter_ctx context = NULL;

	while (scanf("%63s", word) == 1) {
		if (!strcmp(word, "default") && scanf("%" SCNu32, &number) == 1) {
			context = seccomp_init(number);
		} else if (!strcmp(word, "arch") && scanf("%" SCNu32, &number) == 1) {
			if (number == seccomp_arch_native())
				native = 1;
			else
				must(seccomp_arch_add(context, number), "arch");
		} else if (!strcmp(word, "rule")) {
			struct scmp_arg_cmp args[6];
			unsigned count, op;
			int syscall;

			if (!native) {
				must(seccomp_arch_remove(context, SCMP_ARCH_NATIVE), "remove");
				native = 1;
			}
			if (scanf("%" SCNu32 " %63s %u", &number, name, &count) != 3 || count > 6)
				return 2;
			for (unsigned i = 0; i < count; i++) {
				if (scanf("%u %u %" SCNu64 " %" SCNu64, &args[i].arg, &op, &args[i].datum_a, &args[i].datum_b) != 4)
					return 2;
				args[i].op = op;
			}
			syscall = seccomp_syscall_resolve_name(name);
			if (syscall == __NR_SCMP_ERROR) {
				fprintf(stderr, "%s\n", name);
				continue;
			}
			must(seccomp_rule_add_array(context, number, syscall, count, args), name);
		}
	}
	must(seccomp_export_bpf(context, 1), "export");
	return 0;
}
