/*
 * An independent Modbus RTU device for the tests: libmodbus as unit 7 on the serial port that is named, at 19200 8E1.
 *
 * Holding register i of 200 holds 3 * i until it is written. The device says that it is ready, and ends with standard
 * input. To other units it does not listen.
 */
#include <errno.h>
#include <modbus.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 2)
        return 1;
    modbus_t *ctx = modbus_new_rtu(argv[1], 19200, 'E', 8, 1);
    modbus_mapping_t *map = modbus_mapping_new(0, 0, 200, 200);
    if (ctx == NULL || map == NULL || modbus_set_slave(ctx, 7) != 0 || modbus_connect(ctx) != 0)
        return 2;
    for (int i = 0; i < 200; i++)
        map->tab_registers[i] = (uint16_t)(3 * i);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = modbus_get_socket(ctx), .events = POLLIN}};
        if (poll(fds, 2, -1) < 0)
            return 3;
        if (fds[0].revents)
            return 0;
        if (fds[1].revents & (POLLHUP | POLLERR))
            return 0;
        uint8_t query[MODBUS_RTU_MAX_ADU_LENGTH];
        int n = modbus_receive(ctx, query);
        if (n > 0)
            modbus_reply(ctx, query, n, map);
    }
}
