"""Both parties of openmined-psi as two processes, which work at the same time where the protocol lets them.

Runs under an interpreter of its own, since openmined-psi pins a protobuf that Flower cannot use. Prints one JSON
object.

    PYTHON_WITH_OPENMINED experiments/benchmarks/openmined_parties.py CUSTOMERS SHARED
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection

import private_set_intersection.python as psi


def main() -> None:
    n, shared = (int(word) for word in sys.argv[1:])
    bank = [f"BENCH-{i:09d}" for i in range(n)]
    tax = [f"BENCH-{i:09d}" for i in range(n - shared, 2 * n - shared)]
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    client = context.Process(target=partner, args=(tax, there))
    client.start()
    server = psi.server.CreateWithNewKey(True)
    here.recv()
    here.send(None)
    start, used = time.perf_counter(), time.process_time()
    setup = server.CreateSetupMessage(1e-9, n, bank, psi.DataStructure.RAW).SerializeToString()
    request = psi.Request()
    request.ParseFromString(here.recv())
    here.send((setup, server.ProcessRequest(request).SerializeToString()))
    server_used = time.process_time() - used
    found, client_used = here.recv()
    seconds = time.perf_counter() - start
    client.join()
    print(json.dumps({"found": found, "seconds": seconds, "processor": server_used + client_used}))


def partner(tax: list[str], pipe: Connection) -> None:
    client = psi.client.CreateWithNewKey(True)
    pipe.send(None)
    pipe.recv()
    used = time.process_time()
    pipe.send(client.CreateRequest(tax).SerializeToString())
    setup_bytes, response_bytes = pipe.recv()
    setup, response = psi.ServerSetup(), psi.Response()
    setup.ParseFromString(setup_bytes)
    response.ParseFromString(response_bytes)
    found = len(client.GetIntersection(setup, response))
    pipe.send((found, time.process_time() - used))


if __name__ == "__main__":
    main()
