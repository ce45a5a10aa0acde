// Makes a process believe that its processor has no AVX-512, for every library in it (masked.py).
//
// Linux lets a thread have CPUID trap (arch_prctl ARCH_CPUID_SET), which all its later threads inherit. The signal's
// handler asks the processor itself and takes bits out of the answer. What asked before, the C library, keeps what it
// chose; it copies memory and multiplies nothing.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { ARCH_CPUID_SET = 0x1012 };

static int has_avx_vnni, is_masked;
static struct sigaction theirs;  // what the process wants done with a fault of its own

typedef int SigactionFn(int, const struct sigaction*, struct sigaction*);

static int real_sigaction(int number, const struct sigaction* wanted, struct sigaction* before) {
    return ((SigactionFn*)dlsym(RTLD_NEXT, "sigaction"))(number, wanted, before);
}

// Programs that catch faults, such as compilers, get theirs behind this file's.
int sigaction(int number, const struct sigaction* wanted, struct sigaction* before) {
    if (number != SIGSEGV || !is_masked) return real_sigaction(number, wanted, before);
    if (before != NULL) *before = theirs;
    if (wanted != NULL) theirs = *wanted;
    return 0;
}

__sighandler_t signal(int number, __sighandler_t handler) {
    struct sigaction action, before;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    return sigaction(number, &action, &before) == 0 ? before.sa_handler : SIG_ERR;
}

static long let_cpuid(int works) {
    return syscall(SYS_arch_prctl, ARCH_CPUID_SET, works);
}

static void take_bits(uint32_t leaf, uint32_t part, uint32_t* eax, uint32_t* ebx, uint32_t* ecx, uint32_t* edx) {
    if (leaf == 7 && part == 0) {
        // F, DQ, IFMA, PF, ER, CD, BW, VL; VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ; 4VNNIW, 4FMAPS, VP2INTERSECT, AMX,
        // FP16
        *ebx &= ~(1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31);
        *ecx &= ~(1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14);
        *edx &= ~(1u << 2 | 1u << 3 | 1u << 8 | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25);
        if (!has_avx_vnni) *ecx &= ~(1u << 8 | 1u << 9 | 1u << 10);  // GFNI, VAES, VPCLMULQDQ
    }
    if (leaf == 7 && part == 1) {
        *eax &= ~(1u << 5 | 1u << 21);                               // AVX512-BF16, AMX-FP16
        if (!has_avx_vnni) *eax &= ~(1u << 4 | 1u << 23);            // and AVX-IFMA
        if (!has_avx_vnni) *edx &= ~(1u << 4 | 1u << 5 | 1u << 10);  // AVX-VNNI-INT8, AVX-NE-CONVERT, AVX-VNNI-INT16
        *edx &= ~(1u << 8 | 1u << 19);                               // AMX-COMPLEX, AVX10
    }
    if (leaf == 0xd && part == 0) *eax &= ~0x600e0u;  // the state of masks, of wide registers and of tiles
}

static void answer(int signal, siginfo_t* info, void* context) {
    (void)signal, (void)info;
    greg_t* const registers = ((ucontext_t*)context)->uc_mcontext.gregs;
    const uint8_t* const code = (const uint8_t*)registers[REG_RIP];
    if (code[0] != 0x0f || code[1] != 0xa2) {  // no CPUID: the fault is somebody's own
        real_sigaction(SIGSEGV, &theirs, NULL);
        return;
    }
    const uint32_t leaf = (uint32_t)registers[REG_RAX], part = (uint32_t)registers[REG_RCX];
    uint32_t eax, ebx, ecx, edx;
    let_cpuid(1);
    __asm__ volatile("cpuid" : "=a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx) : "0"(leaf), "2"(part));
    let_cpuid(0);
    take_bits(leaf, part, &eax, &ebx, &ecx, &edx);
    registers[REG_RAX] = eax;
    registers[REG_RBX] = ebx;
    registers[REG_RCX] = ecx;
    registers[REG_RDX] = edx;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void mask(void) {
    const char* const level = getenv("LONGSPAN_MASKED_CPU");
    if (level == NULL) return;
    has_avx_vnni = strcmp(level, "avx_vnni") == 0;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = answer;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    real_sigaction(SIGSEGV, &action, &theirs);
    is_masked = 1;
    if (let_cpuid(0) == 0) return;
    static const char text[] = "masked: this kernel or processor lets no process trap CPUID\n";
    (void)!write(2, text, sizeof text - 1);
    _exit(3);
}
