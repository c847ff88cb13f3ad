#!/usr/bin/env python3
"""freeze.py PID THREAD: stops one thread of a process (by its name), until this program ends or the process does.

It prints "frozen" when the thread stands. The other threads go on: the way in which a thread hangs.
"""
import ctypes
import os
import sys

SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def ptrace(request, thread):
    if libc.ptrace(request, thread, None, None) != 0:
        error = ctypes.get_errno()
        sys.exit(f"ptrace {request:#x}: {os.strerror(error)}")


process, name = sys.argv[1:]
tasks = f"/proc/{process}/task"
named = [int(task) for task in os.listdir(tasks) if open(f"{tasks}/{task}/comm").read().strip() == name]
if not named:
    sys.exit(f"process {process} has no thread {name}")
for thread in named:
    ptrace(SEIZE, thread)
    ptrace(INTERRUPT, thread)
    os.waitpid(thread, WALL)
print("frozen", flush=True)
try:
    while True:
        # Comes back when the process is killed; without this nobody could bury the thread.
        os.waitpid(-1, WALL)
except ChildProcessError:
    pass
