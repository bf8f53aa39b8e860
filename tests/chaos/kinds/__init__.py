"""The kinds of faults, one module each, with a function `rounds`."""
