"""Where the runner keeps what, in words of 8 bytes.

What different threads write lies in different cache lines of 64 bytes.
"""

# A pool. Functions of the C library come in as data, so the runner's object has no undefined symbols.
MUTEX, CONDITION, LOCK, UNLOCK, WAIT, BROADCAST, YIELD, SLEEP = range(8)
SPINS, IDLE_SPINS, IDLE_YIELDS, NAP_SECONDS, NAP_NANOSECONDS = range(8, 13)
GENERATION, JOB, STOP, SLEEPERS = 32, 40, 41, 48
MUTEX_MEMORY, CONDITION_MEMORY = 64, 80
# For placement: GET_CPU is 0 where the system cannot do it. CPUS is a list of CPU_COUNT numbers; sets are bit masks.
GET_CPU, GET_AFFINITY, SET_AFFINITY, POOL_THREADS, CPU_COUNT = range(96, 101)
SET_WORDS = 16
TAKEN, CPUS, CPUS_MOST = 104, 104 + SET_WORDS, 256
# One record per thread, the caller of a run first: where it was last seen, what a worker needs to be moved, and the
# job that it may read.
WORKERS = CPUS + CPUS_MOST
WORKER_ID, WORKER_CPU, WORKER_ASLEEP, WORKER_PLACED, WORKER_INSIDE = range(5)
WORKER_SET, WORKER_ONE_CPU = 8, 8 + SET_WORDS
WORKER_WORDS = 8 + 2 * SET_WORDS


def pool_words(threads: int) -> int:
    """Size of a pool."""
    return WORKERS + threads * WORKER_WORDS


# A job. STEPS points to pairs (kernel, arguments), BOUNDS to THREADS PARTS + 1 unit numbers per step, CLOCK to
# COUNT + 1 counter readings or is 0. MODE is the floating-point mode that kernels run in. RUN counts runs, the first is
# 1. CLAIMED points to COUNT words per thread, parts of it that were claimed in all runs; DONE to a word per step, parts
# that were done in all runs.
STEPS, COUNT, BOUNDS, THREADS, PARTS, SCRATCH, SCRATCH_STRIDE, CLOCK, MODE, CLAIMED, DONE = range(11)
RUN, JOB_WORDS = 16, 24

# Round to nearest, all exceptions masked; denormal numbers kept, or taken as zero.
MODES = {
    "x86_64": {"keep": 0x1F80, "flush": 0x1F80 | 1 << 15 | 1 << 6},
    "aarch64": {"keep": 0, "flush": 1 << 24},
}
SYMBOLS = tuple(f"secateur_{name}" for name in ("launch", "worker", "retire", "stop", "spin", "ticks"))
