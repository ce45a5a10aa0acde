"""`longspan search`: its commands and the folder that they keep."""
