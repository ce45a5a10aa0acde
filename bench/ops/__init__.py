"""Speed of each op beside its peers and the limit of the machine."""
