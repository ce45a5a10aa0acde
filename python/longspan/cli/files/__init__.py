"""From input files to records, and from rows to output files that are whole or not there."""
