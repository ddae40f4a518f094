"""The history in files: CSV and Parquet, out of a box and into it."""
