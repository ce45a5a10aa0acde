"""Documents to chunks with vectors that have seen the whole document."""
