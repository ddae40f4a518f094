"""The acceptance test of a box: faults over a running system, and the sums that show that nothing was lost."""
