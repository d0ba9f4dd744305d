/* A plugin of QEMU's user mode: at each getsid() of the guest, the instructions that it has executed so far.
 *
 * Nothing else in a pass asks for its session, and the call needs no library. A line is "mark THREADS INSTRUCTIONS".
 * The counter is added to without a lock: it is right for one thread, so the number of threads is said with it.
 * The prototypes are of QEMU's plugin API version 1 (QEMU 4.2 to 8), whose header Debian does not package.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define GETSID 156 /* of every architecture of Linux's generic table, ARM64 among them */

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
void qemu_plugin_register_vcpu_init_cb(plugin_id, void (*)(plugin_id, unsigned));
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, enum qemu_plugin_op, void *, uint64_t);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, void (*)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                                                              uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);

EXPORT int qemu_plugin_version = 1;

static uint64_t executed;
static unsigned threads;
static FILE *marks;

static void begun(plugin_id id, unsigned vcpu) { __atomic_fetch_add(&threads, 1, __ATOMIC_RELAXED); }

static void translated(plugin_id id, struct qemu_plugin_tb *block) {
  qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &executed, qemu_plugin_tb_n_insns(block));
}

static void called(plugin_id id, unsigned vcpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                   uint64_t f, uint64_t g, uint64_t h) {
  if (number != GETSID) return;
  fprintf(marks, "mark %u %" PRIu64 "\n", threads, executed);
  fflush(marks);
}

/* Its argument is "marks=PATH", the file of the lines. */
EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
  if (argc != 1 || strncmp(argv[0], "marks=", 6) != 0 || (marks = fopen(argv[0] + 6, "w")) == NULL) return 1;
  qemu_plugin_register_vcpu_init_cb(id, begun);
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_vcpu_syscall_cb(id, called);
  return 0;
}
