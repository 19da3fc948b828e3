"""The scenarios, one noun per file; `catalogue` lists them in the order of the table."""
