/*
 * An independent Modbus TCP server for the tests: libmodbus with fixed registers.
 *
 * Registers come on standard input, one run a line: function (3 or 4), address, words in hexadecimal. An empty line
 * ends them. The server then writes its port, serves one connection after the other, and ends with standard input.
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

static int load(modbus_mapping_t *map)
{
    char line[8192];
    while (fgets(line, sizeof line, stdin) && line[0] != '\n') {
        char *p = line;
        long function = strtol(p, &p, 10);
        long address = strtol(p, &p, 10);
        for (;;) {
            char *end;
            long word = strtol(p, &end, 16);
            if (end == p)
                break;
            if (address < 0 || address > 65535)
                return -1;
            if (function == 3)
                map->tab_registers[address] = (uint16_t)word;
            else
                map->tab_input_registers[address] = (uint16_t)word;
            address++;
            p = end;
        }
    }
    return 0;
}

int main(void)
{
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", 0);
    modbus_mapping_t *map = modbus_mapping_new(0, 0, 65536, 65536);
    if (ctx == NULL || map == NULL || load(map) != 0)
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
                modbus_reply(ctx, query, n, map);
            } else if (n < 0) {
                close(conn);
                conn = -1;
            }
        }
    }
}
