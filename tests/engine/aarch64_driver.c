/* Runs steps of kernels for AArch64 with the engine's own runner; tests/engine/aarch64.py writes its input.
   All numbers of the input are int64: threads, parts, runs, mode, scratch stride;
   blocks: count, then size and bytes of each;
   steps: count, then kernel, count of slots, (block or -1, value) of each slot, threads parts + 1 unit numbers. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels.h" /* the words of pool and job, and `kernels`, the table of functions */

void secateur_launch(int64_t *pool, int64_t *job);
void secateur_worker(int64_t *pool, int64_t thread);
void secateur_retire(int64_t *pool, int64_t *job);
void secateur_stop(int64_t *pool);

static FILE *in;

static int64_t number(void) {
  int64_t value;
  if (fread(&value, 8, 1, in) != 1) exit(3);
  return value;
}

static void *lines(int64_t size) {
  void *memory = aligned_alloc(64, (size + 127) / 64 * 64);
  if (!memory) exit(4);
  return memory;
}

static int64_t *pool;

static void *work(void *thread) {
  secateur_worker(pool, (int64_t)(intptr_t)thread);
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 3 || !(in = fopen(argv[1], "rb"))) return 2;
  int64_t threads = number(), parts = number(), runs = number(), mode = number(), stride = number();

  int64_t blocks = number();
  char **memory = lines(8 * blocks);
  int64_t *sizes = lines(8 * blocks);
  for (int64_t i = 0; i < blocks; i++) {
    sizes[i] = number();
    memory[i] = lines(sizes[i]);
    if (fread(memory[i], 1, sizes[i], in) != (size_t)sizes[i]) return 3;
  }

  int64_t steps = number();
  int64_t *records = lines(16 * steps), row = threads * parts + 1, *bounds = lines(8 * steps * row);
  for (int64_t i = 0; i < steps; i++) {
    records[2 * i] = (int64_t)kernels[number()];
    int64_t slots = number(), *arguments = lines(8 * slots);
    for (int64_t j = 0; j < slots; j++) {
      int64_t block = number(), value = number();
      arguments[j] = block < 0 ? value : (int64_t)(memory[block] + value);
    }
    records[2 * i + 1] = (int64_t)arguments;
    for (int64_t j = 0; j < row; j++) bounds[i * row + j] = number();
  }

  char *scratch = lines(stride * threads);
  memset(scratch, 0xFF, stride * threads);
  int64_t *claimed = lines(8 * steps * threads), *done = lines(8 * steps);
  memset(claimed, 0, 8 * steps * threads);
  memset(done, 0, 8 * steps);
  int64_t job[JOB_WORDS] = {0};
  job[STEPS] = (int64_t)records;
  job[COUNT] = steps;
  job[BOUNDS] = (int64_t)bounds;
  job[THREADS] = threads;
  job[PARTS] = parts;
  job[CLAIMED] = (int64_t)claimed;
  job[DONE] = (int64_t)done;
  job[SCRATCH] = (int64_t)scratch;
  job[SCRATCH_STRIDE] = stride;
  job[MODE] = mode;

  pool = lines(8 * POOL_WORDS(threads));
  memset(pool, 0, 8 * POOL_WORDS(threads));
  pool[POOL_THREADS] = threads;
  pool[MUTEX] = (int64_t)&pool[MUTEX_MEMORY];
  pool[CONDITION] = (int64_t)&pool[CONDITION_MEMORY];
  pthread_mutex_init((pthread_mutex_t *)pool[MUTEX], NULL);
  pthread_cond_init((pthread_cond_t *)pool[CONDITION], NULL);
  pool[LOCK] = (int64_t)pthread_mutex_lock;
  pool[UNLOCK] = (int64_t)pthread_mutex_unlock;
  pool[WAIT] = (int64_t)pthread_cond_wait;
  pool[BROADCAST] = (int64_t)pthread_cond_broadcast;
  pool[YIELD] = (int64_t)sched_yield;
  pool[SLEEP] = (int64_t)nanosleep;
  pool[SPINS] = pool[IDLE_SPINS] = 50;
  pool[IDLE_YIELDS] = 20;
  pool[NAP_NANOSECONDS] = 20000;
  pthread_t *workers = lines(sizeof(pthread_t) * threads);
  for (int64_t i = 1; i < threads; i++)
    if (pthread_create(&workers[i], NULL, work, (void *)(intptr_t)i)) return 5;
  for (int64_t i = 0; i < runs; i++) {
    secateur_launch(pool, job);
    if (i % 3 == 2) nanosleep(&(struct timespec){0, 1000000}, NULL); /* long enough for workers to fall asleep */
  }
  secateur_retire(pool, job);
  secateur_stop(pool);
  for (int64_t i = 1; i < threads; i++) pthread_join(workers[i], NULL);

  FILE *out = fopen(argv[2], "wb");
  if (!out) return 6;
  for (int64_t i = 0; i < blocks; i++)
    if (fwrite(memory[i], 1, sizes[i], out) != (size_t)sizes[i]) return 6;
  return fclose(out) ? 6 : 0;
}
