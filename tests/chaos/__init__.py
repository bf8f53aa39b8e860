"""The fault suite: real processes are killed, servers break, disks fill up, and the oracle is asked after each."""
