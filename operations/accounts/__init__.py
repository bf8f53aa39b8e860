"""The books of a run: counted, as equations, in a chain of entries, shown, and marts built again from them."""
