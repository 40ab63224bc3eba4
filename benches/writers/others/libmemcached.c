/* libmemcached with buffered requests: libmemcached CLIENT PORT USERS STRIDE, CLIENT being libmemcached or libmemcached-noreply. */

#include <libmemcached/memcached.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double) time.tv_sec + (double) time.tv_nsec / 1e9;
}

static void set(memcached_st *memc, int number) {
    char key[64], value[128];
    int key_length = snprintf(key, sizeof key, "user:%d:online", number);
    int length = snprintf(value, sizeof value,
        "{\"serverId\":\"server-1\",\"connectedAt\":1700000000000,\"socketId\":\"00000001-0-%d-0\"}", number);
    memcached_return_t result = memcached_set(memc, key, (size_t) key_length, value, (size_t) length, 60, 0);
    if (result != MEMCACHED_SUCCESS && result != MEMCACHED_BUFFERED) {
        fprintf(stderr, "libmemcached: %s\n", memcached_strerror(memc, result));
        exit(1);
    }
}

/* Its buffer has 8 KiB. When that is full it may be sent in the middle of a command, and then libmemcached 1.1.4 waits for the answer to
   what it has not sent, gives up, and ends the process by an assertion. So it is sent before it is full. */
enum { AT_ONCE = 50 };

int main(int count, char **arguments) {
    if (count != 5) return 2;
    int users = atoi(arguments[3]);
    long long stride = atoll(arguments[4]);
    memcached_st *memc = memcached_create(NULL);
    memcached_server_add(memc, "127.0.0.1", (in_port_t) atoi(arguments[2]));
    memcached_behavior_set(memc, MEMCACHED_BEHAVIOR_TCP_NODELAY, 1);
    memcached_behavior_set(memc, MEMCACHED_BEHAVIOR_BUFFER_REQUESTS, 1);
    if (strcmp(arguments[1], "libmemcached-noreply") == 0) memcached_behavior_set(memc, MEMCACHED_BEHAVIOR_NOREPLY, 1);
    set(memc, 0);
    memcached_flush_buffers(memc);
    double start = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    for (int place = 0; place < users; place++) {
        set(memc, (int) (place * stride % users));
        if (place % AT_ONCE == AT_ONCE - 1 && memcached_flush_buffers(memc) != MEMCACHED_SUCCESS) return 1;
    }
    memcached_flush_buffers(memc);
    /* Answered when all before it is done. */
    memcached_version(memc);
    printf("{\"seconds\":%.4f,\"cpu\":%.4f}\n", now(CLOCK_MONOTONIC) - start, now(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    memcached_free(memc);
    return 0;
}
