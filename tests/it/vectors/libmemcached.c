/* Where libmemcached looks: reads lines of servers (HOST:PORT or HOST:PORT*WEIGHT), prints a line for each ring. */

#include <libmemcached/memcached.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS 10000

static void check(memcached_return_t result) {
    if (result != MEMCACHED_SUCCESS) {
        fprintf(stderr, "libmemcached: %d\n", result);
        exit(1);
    }
}

static void show(const char *ring, const char *servers) {
    memcached_st *memc = memcached_create(NULL);
    if (strcmp(ring, "ketama") == 0) {
        check(memcached_behavior_set(memc, MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED, 1));
    }
    char *rest = strdup(servers), *next = rest, *server;
    while ((server = strsep(&next, " ")) != NULL) {
        char *star = strchr(server, '*');
        unsigned weight = 1;
        if (star != NULL) {
            *star = 0;
            weight = (unsigned) atoi(star + 1);
        }
        char *colon = strrchr(server, ':');
        *colon = 0;
        check(memcached_server_add_with_weight(memc, server, (in_port_t) atoi(colon + 1), weight));
    }
    printf("%s %s ", ring, servers);
    for (int number = 0; number < KEYS; number++) {
        char key[64];
        int length = snprintf(key, sizeof key, "user:%d:online", number);
        uint32_t place = memcached_generate_hash(memc, key, (size_t) length);
        putchar("0123456789abcdefghijklmnopqrstuvwxyz"[place]);
    }
    putchar('\n');
    memcached_free(memc);
    free(rest);
}

int main(void) {
    char line[4096];
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = 0;
        show("ketama", line);
        show("modulo", line);
    }
    return 0;
}
