/*
 * An independent Modbus TCP server for the tests: libmodbus with fixed registers of many units.
 *
 * Registers come on standard input, one run a line: unit, function (3 or 4), address, words in hexadecimal. An empty
 * line ends them. The server then writes its port, serves one connection after the other, and ends with standard
 * input. What a unit does not have is refused with exception 2, as devices do.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <modbus.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct run {
    int unit, function, address, count;
    uint16_t *words;
};

static struct run *runs;
static int run_count;

static int load(void)
{
    static char line[16384];
    while (fgets(line, sizeof line, stdin) && line[0] != '\n') {
        char *p = line;
        struct run r = {0};
        r.unit = (int)strtol(p, &p, 10);
        r.function = (int)strtol(p, &p, 10);
        r.address = (int)strtol(p, &p, 10);
        r.words = calloc(sizeof line / 5 + 1, sizeof *r.words);
        for (;;) {
            char *end;
            long word = strtol(p, &end, 16);
            if (end == p)
                break;
            r.words[r.count++] = (uint16_t)word;
            p = end;
        }
        if (r.address < 0 || r.address + r.count > 65536)
            return -1;
        runs = realloc(runs, (size_t)(run_count + 1) * sizeof *runs);
        if (runs == NULL)
            return -1;
        runs[run_count++] = r;
    }
    return 0;
}

/* held looks for a register of a unit. */
static const uint16_t *held(int unit, int function, int address)
{
    for (int i = 0; i < run_count; i++) {
        const struct run *r = &runs[i];
        if (r->unit == unit && r->function == function && address >= r->address && address < r->address + r->count)
            return &r->words[address - r->address];
    }
    return NULL;
}

/* answer lets libmodbus reply, with the registers of the unit that is asked, or with an exception. */
static void answer(modbus_t *ctx, const uint8_t *query, int n, modbus_mapping_t *map)
{
    const uint8_t *pdu = query + modbus_get_header_length(ctx);
    int unit = pdu[-1], function = pdu[0];
    if (function == 3 || function == 4) {
        int address = pdu[1] << 8 | pdu[2], count = pdu[3] << 8 | pdu[4];
        uint16_t *to = function == 3 ? map->tab_registers : map->tab_input_registers;
        for (int i = address; i < address + count; i++) {
            const uint16_t *word = held(unit, function, i);
            if (word == NULL) {
                modbus_reply_exception(ctx, query, MODBUS_EXCEPTION_ILLEGAL_DATA_ADDRESS);
                return;
            }
            to[i] = *word;
        }
    }
    modbus_reply(ctx, query, n, map);
}

int main(void)
{
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", 0);
    modbus_mapping_t *map = modbus_mapping_new(0, 0, 65536, 65536);
    if (ctx == NULL || map == NULL || load() != 0)
        return 1;
    int listener = modbus_tcp_listen(ctx, 1);
    if (listener < 0)
        return 2;
    struct sockaddr_in addr;
    socklen_t size = sizeof addr;
    if (getsockname(listener, (struct sockaddr *)&addr, &size) != 0)
        return 3;
    printf("%d\n", ntohs(addr.sin_port));
    fflush(stdout);

    int conn = -1;
    for (;;) {
        struct pollfd fds[3] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = listener, .events = POLLIN}, {.fd = conn, .events = POLLIN}};
        if (poll(fds, 3, -1) < 0)
            return 4;
        if (fds[0].revents)
            return 0;
        if (fds[1].revents & POLLIN) {
            int fresh = listener;
            if (conn >= 0)
                close(conn);
            if (modbus_tcp_accept(ctx, &fresh) < 0)
                return 5;
            conn = modbus_get_socket(ctx);
            continue;
        }
        if (fds[2].revents) {
            uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
            int n = modbus_receive(ctx, query);
            if (n > 0) {
                answer(ctx, query, n, map);
            } else if (n < 0) {
                close(conn);
                conn = -1;
            }
        }
    }
}
