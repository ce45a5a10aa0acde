"""RETRO on two real databases: what retrofitted vectors tell that plain ones do not, and where they do not help."""
