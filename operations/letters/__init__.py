"""Dead letters of all kinds in one place: found in the data, listed, corrected, discarded and replayed."""
