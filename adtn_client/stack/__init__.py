"""The embedded stack: Redis, API and workers as child processes of one command.

Two processes watch over each other. The *guard* is the process that the user started; it starts the *supervisor* and
waits. The supervisor starts everything else. Should one of the two be killed, the other ends the whole tree: the kernel
tells the supervisor when the guard dies, and the guard adopts what a dead supervisor leaves.
"""
