"""What a scanner makes of a head: field, signal, k-space, coil and noise."""
