"""What freed memory costs: with glibc told to keep it, arrays made again and again fault no pages."""

import subprocess
import sys

from topkin.models.ops.allocation import keep_freed_memory

PROGRAM = """
import ctypes, resource, sys
from topkin.models.ops import allocation
if sys.argv[1] == "elsewhere":
    allocation.platform.libc_ver = lambda: ("", "")
told = sys.argv[1] != "plain" and allocation.keep_freed_memory()
C = ctypes.CDLL(None)
C.malloc.restype, C.malloc.argtypes, C.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def step():
    held = [C.malloc(30 << 20) for _ in range(4)]
    for at in held:
        ctypes.memset(at, 1, 30 << 20)
    for at in reversed(held):
        C.free(at)
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    step()
print(told, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    found = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    told, number = found.stdout.split()
    return told == "True", int(number)


def test_arrays_made_again_fault_no_pages_where_the_c_library_can_be_told():
    told, number = faults("kept")
    if told:
        assert number < 1000
        assert faults("plain")[1] > 10_000


def test_another_c_library_is_left_alone():
    assert faults("elsewhere")[0] is False


def test_it_may_be_asked_for_twice():
    assert keep_freed_memory() == keep_freed_memory()
