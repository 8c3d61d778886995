/* The floor of the machine: the least that any program has to do for the same work, in C, with
 * nothing remembered.
 *
 *   floor dag THREADS GRAPH PROGRAM    runs PROGRAM once per node, each after what it needs
 *   floor drop DIR PROGRAM LOG         runs PROGRAM LOG PATH for each file closed or moved into DIR
 *
 * GRAPH holds the number of nodes, then per node the number of its needs and the needs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *program;

static pid_t spawn(char *const argv[]) {
    char *none[] = {NULL};
    pid_t pid = vfork();
    if (pid == 0) {
        execve(argv[0], argv, none);
        _exit(127);
    }
    return pid;
}

/* -- dag ------------------------------------------------------------------------------------- */

static struct { int *missing, *first, *next, *to, *ready; int nodes, edges, head, tail, done; } dag;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;

static void read_graph(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%d", &dag.nodes) != 1) exit(2);
    dag.missing = calloc(dag.nodes, sizeof(int));
    dag.first = malloc(dag.nodes * sizeof(int));
    dag.ready = malloc(dag.nodes * sizeof(int));
    int room = 0;
    for (int n = 0; n < dag.nodes; n++) dag.first[n] = -1;
    for (int n = 0; n < dag.nodes; n++) {
        int needs, need;
        if (fscanf(file, "%d", &needs) != 1) exit(2);
        dag.missing[n] = needs;
        if (needs == 0) dag.ready[dag.tail++] = n;
        while (needs-- > 0) {
            if (fscanf(file, "%d", &need) != 1) exit(2);
            if (dag.edges == room) {
                room = room ? 2 * room : 1024;
                dag.next = realloc(dag.next, room * sizeof(int));
                dag.to = realloc(dag.to, room * sizeof(int));
            }
            dag.to[dag.edges] = n;
            dag.next[dag.edges] = dag.first[need];
            dag.first[need] = dag.edges++;
        }
    }
    fclose(file);
}

static void *slot(void *unused) {
    (void)unused;
    char *argv[] = {(char *)program, NULL};
    pthread_mutex_lock(&lock);
    while (dag.done < dag.nodes) {
        if (dag.head == dag.tail) {
            pthread_cond_wait(&more, &lock);
            continue;
        }
        int node = dag.ready[dag.head++];
        pthread_mutex_unlock(&lock);
        int status;
        waitpid(spawn(argv), &status, 0);
        pthread_mutex_lock(&lock);
        dag.done++;
        for (int e = dag.first[node]; e >= 0; e = dag.next[e])
            if (--dag.missing[dag.to[e]] == 0) dag.ready[dag.tail++] = dag.to[e];
        pthread_cond_broadcast(&more);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static int run_dag(int threads, const char *graph) {
    read_graph(graph);
    pthread_t thread[64];
    for (int n = 1; n < threads && n < 64; n++) pthread_create(&thread[n], NULL, slot, NULL);
    slot(NULL);
    for (int n = 1; n < threads && n < 64; n++) pthread_join(thread[n], NULL);
    return 0;
}

/* -- drop ------------------------------------------------------------------------------------ */

static int run_drop(const char *dir, char *log) {
    static char events[1 << 16] __attribute__((aligned(8)));
    int in = inotify_init1(IN_CLOEXEC);
    if (inotify_add_watch(in, dir, IN_CLOSE_WRITE | IN_MOVED_TO) < 0) return 1;
    puts("ready");
    fflush(stdout);
    for (;;) {
        ssize_t got = read(in, events, sizeof events);
        if (got < 0) return errno == EINTR ? 0 : 1;
        for (char *at = events; at < events + got;) {
            struct inotify_event *event = (void *)at;
            at += sizeof *event + event->len;
            char path[4352];
            snprintf(path, sizeof path, "%s/%s", dir, event->name);
            char *argv[] = {(char *)program, log, path, NULL};
            int status;
            waitpid(spawn(argv), &status, 0);
        }
    }
}

int main(int argc, char **argv) {
    if (argc == 5 && !strcmp(argv[1], "dag")) {
        program = argv[4];
        return run_dag(atoi(argv[2]), argv[3]);
    }
    if (argc == 5 && !strcmp(argv[1], "drop")) {
        program = argv[3];
        return run_drop(argv[2], argv[4]);
    }
    fputs("usage: floor dag THREADS GRAPH PROGRAM | floor drop DIR PROGRAM LOG\n", stderr);
    return 2;
}
