"""Equal results after kills and on any number of devices, and the cost of saving."""
