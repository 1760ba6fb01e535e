"""What the timings share: functions that take turns, and the peak memory of a process."""

import pathlib
import resource
import time


def take_turns(functions, warm_up, runs):
    """Times functions that take turns, so that a drift of the machine's speed hits all of them.

    Args:
        functions: dict of functions without arguments that return a tensor.
        warm_up: Calls of each before timing.
        runs: Timed calls of each.

    Returns:
        dict from name to the milliseconds of every call.
    """
    for function in functions.values():
        for _ in range(warm_up):
            function().numpy()
    times = {name: [] for name in functions}
    for _ in range(runs):
        for name, function in functions.items():
            start = time.perf_counter()
            function().numpy()
            times[name].append(1e3 * (time.perf_counter() - start))
    return times


def own_peak_megabytes():
    """Peak resident memory of this process."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        # On Linux `ru_maxrss` of a child starts with the memory of the process that started it.
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
