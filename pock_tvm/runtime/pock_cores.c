/* Which cores there are, how fast each is, and which thread runs on which.
 *
 * A kernel's work is split evenly, so the slowest core sets the pace: on a machine of unequal cores the pool stays on the
 * fast ones. Linux tells a core's speed as cpu_capacity (Arm) or as its highest frequency.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* sched_setaffinity */
#endif
#include "pock_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if defined(__linux__)
#include <sched.h>

int pock_get_cores(pock_core_set *set) {
  cpu_set_t found;
  memset(set, 0, sizeof *set);
  if (sched_getaffinity(0, sizeof found, &found)) return -1;
  for (int i = 0; i < POCK_MAX_CORES; i++)
    if (CPU_ISSET(i, &found)) set->bits[i / 64] |= (uint64_t)1 << i % 64;
  return 0;
}

int pock_set_cores(const pock_core_set *set) {
  cpu_set_t wanted;
  CPU_ZERO(&wanted);
  for (int i = 0; i < POCK_MAX_CORES; i++)
    if (set->bits[i / 64] >> i % 64 & 1) CPU_SET(i, &wanted);
  return sched_setaffinity(0, sizeof wanted, &wanted);
}

#else

int pock_get_cores(pock_core_set *set) {
  memset(set, 0, sizeof *set);
  return -1;
}

int pock_set_cores(const pock_core_set *set) {
  (void)set;
  return -1;
}

#endif

static uint64_t read_number(const char *root, int core, const char *name) {
  char path[512], text[32];
  int length = snprintf(path, sizeof path, "%s/devices/system/cpu/cpu%d/%s", root, core, name);
  if (length < 0 || (size_t)length >= sizeof path) return 0;
  int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return 0;
  ssize_t got = read(file, text, sizeof text);
  close(file);
  uint64_t value = 0;
  for (ssize_t i = 0; i < got && i < 18 && text[i] >= '0' && text[i] <= '9'; i++) value = value * 10 + (uint64_t)(text[i] - '0');
  return value;
}

/* Speeds count only if every core tells its own. */
static int read_speeds(const char *root, const char *name, pock_core *cores, int count) {
  for (int i = 0; i < count; i++)
    if (!(cores[i].speed = read_number(root, cores[i].number, name))) {
      while (i >= 0) cores[i--].speed = 0;
      return 0;
    }
  return 1;
}

int pock_rank_cores(const char *root, const pock_core_set *allowed, pock_core cores[POCK_MAX_CORES]) {
  int count = 0;
  for (int i = 0; i < POCK_MAX_CORES; i++)
    if (allowed->bits[i / 64] >> i % 64 & 1) {
      cores[count].number = i;
      cores[count++].speed = 0;
    }
  if (!read_speeds(root, "cpu_capacity", cores, count)) (void)read_speeds(root, "cpufreq/cpuinfo_max_freq", cores, count);
  for (int i = 1; i < count; i++) { /* by insertion: equal cores keep their order */
    pock_core moved = cores[i];
    int at = i;
    for (; at && cores[at - 1].speed < moved.speed; at--) cores[at] = cores[at - 1];
    cores[at] = moved;
  }
  return count;
}

int pock_fast_cores(const pock_core *cores, int count) {
  int fast = 0;
  while (fast < count && cores[fast].speed >= cores[0].speed - cores[0].speed / 2) fast++;
  return fast;
}

int pock_usable_cores(void) {
  pock_core_set allowed;
  int count = 0;
  if (pock_get_cores(&allowed)) count = (int)sysconf(_SC_NPROCESSORS_ONLN);
  for (int i = 0; i < POCK_MAX_CORES; i++) count += allowed.bits[i / 64] >> i % 64 & 1;
  return count < 1 ? 1 : count;
}

int pock_suggested_threads(void) {
  pock_core_set allowed;
  pock_core cores[POCK_MAX_CORES];
  int count = pock_get_cores(&allowed) ? pock_usable_cores()
                                       : pock_fast_cores(cores, pock_rank_cores("/sys", &allowed, cores));
  return count < 1 ? 1 : count > POCK_MAX_THREADS ? POCK_MAX_THREADS : count;
}

static void add_core(pock_core_set *set, int core) { set->bits[core / 64] |= (uint64_t)1 << core % 64; }

void pock_place_threads(pock_session *session, const char *root, int affinity) {
  pock_core_set allowed;
  pock_core cores[POCK_MAX_CORES];
  if (affinity == POCK_AFFINITY_NONE || pock_get_cores(&allowed)) return;
  int count = pock_rank_cores(root, &allowed, cores), fast = pock_fast_cores(cores, count);
  int one_each = affinity == POCK_AFFINITY_CORES;
  if (!count || (!one_each && (fast == count || session->max_threads > fast))) return;
  for (int i = one_each ? 0 : 1; i < session->max_threads; i++) {
    pock_worker *worker = &session->workers[i];
    memset(&worker->cores, 0, sizeof worker->cores);
    for (int k = 0; k < fast; k++)
      if (!one_each) add_core(&worker->cores, cores[k].number);
    if (one_each) add_core(&worker->cores, cores[i % count].number);
    worker->placed = 1;
  }
  if (one_each) {
    session->starter = pthread_self();
    session->starter_cores = allowed;
    session->workers[0].placed = !pock_set_cores(&session->workers[0].cores);
    pock_say(session, POCK_LOG_INFO, "each thread on a core of its own, the first on core %d", cores[0].number);
  } else {
    pock_say(session, POCK_LOG_INFO, "threads stay on the %d fast ones of %d cores", fast, count);
  }
}

void pock_release_starter(pock_session *session) {
  if (!session->workers[0].placed || !pthread_equal(pthread_self(), session->starter)) return;
  (void)pock_set_cores(&session->starter_cores);
  session->workers[0].placed = 0;
}
