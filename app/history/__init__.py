"""The past that fits the disk: batches compacted into chunks, a tag each, and read again."""
