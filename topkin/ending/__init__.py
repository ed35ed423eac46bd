"""How a job ends before its time: by a signal, a limit of time, a worker that died, a disk or a memory that is full."""
