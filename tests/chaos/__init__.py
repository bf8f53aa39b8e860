"""The fault suite: real processes are killed, servers break, disks fill up, and after each round the oracle is asked."""
