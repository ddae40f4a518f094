"""The gateway's work: field sources into the journal, windows out of it to the workers, answers to northbound peers."""
