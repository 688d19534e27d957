"""An independent Modbus server for the tests: pymodbus with fixed registers of many units.

Registers come on standard input, one run a line: unit, function (3 or 4), address, words in hexadecimal. An empty line
ends them. The server then listens on TCP, on TCP with the frames of a serial line, and on the serial line that it was
given, writes the two ports, and ends with standard input. What a unit does not have is refused with exception 2, as devices do.
"""
import asyncio
import sys

from pymodbus.datastore import ModbusServerContext, ModbusSlaveContext, ModbusSparseDataBlock
from pymodbus.framer.rtu_framer import ModbusRtuFramer
from pymodbus.framer.socket_framer import ModbusSocketFramer
from pymodbus.server.async_io import ModbusSerialServer, ModbusTcpServer


def load():
    """Registers by unit and function."""
    units = {}
    for line in sys.stdin:
        fields = line.split()
        if not fields:
            break
        unit, function, address = (int(f) for f in fields[:3])
        held = units.setdefault(unit, {3: {}, 4: {}})[function]
        for offset, word in enumerate(fields[3:]):
            held[address + offset] = int(word, 16)
    slaves = {}
    for unit, held in units.items():
        blocks = {}
        for function, name in ((3, "hr"), (4, "ir")):
            blocks[name] = ModbusSparseDataBlock(held[function] or {65535: 0})
        slaves[unit] = ModbusSlaveContext(zero_mode=True, **blocks)
    return ModbusServerContext(slaves=slaves, single=False)


async def main(device):
    context = load()
    sockets = [
        ModbusTcpServer(context, framer=framer, address=("127.0.0.1", 0))
        for framer in (ModbusSocketFramer, ModbusRtuFramer)
    ]
    tasks = [asyncio.create_task(s.serve_forever()) for s in sockets]
    serial = ModbusSerialServer(context, framer=ModbusRtuFramer, port=device, baudrate=115200, timeout=0)
    await serial.start()
    for s in sockets:
        await s.serving
    print(*(s.server.sockets[0].getsockname()[1] for s in sockets), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await serial.shutdown()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


asyncio.run(main(sys.argv[1]))
