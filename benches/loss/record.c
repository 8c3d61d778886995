/* What every contestant runs: appends a line for each file that it was told of, with the size that
 * it sees and its absolute path. Usage: record LOG [FILE...]; without files they come on standard input, a line each,
 * with or without a word and a colon before the path. Folders do not count. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int out;

static void told(const char *path) {
    char line[8192], here[4096] = "";
    struct stat st;
    int n;
    if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return;
    if (path[0] != '/' && getcwd(here, sizeof here - 1) != NULL)
        strcat(here, "/");
    n = snprintf(line, sizeof line, "%lld %s%s\n", (long long)st.st_size, here, path);
    if (n > 0 && (size_t)n < sizeof line && write(out, line, (size_t)n) != n)
        exit(1);
}

int main(int argc, char **argv) {
    char *line = NULL;
    size_t room = 0;
    ssize_t got;
    if (argc < 2 || (out = open(argv[1], O_WRONLY | O_APPEND | O_CREAT, 0644)) < 0)
        return 1;
    for (int i = 2; i < argc; i++)
        told(argv[i]);
    while (argc == 2 && (got = getline(&line, &room, stdin)) > 0) {
        char *path = line, *slash;
        if (line[got - 1] == '\n')
            line[got - 1] = 0;
        if ((slash = strstr(line, ":/")) != NULL)
            path = slash + 1;
        told(path);
    }
    return 0;
}
