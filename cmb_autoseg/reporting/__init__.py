"""How results are shown, whatever stage they come from: tables and their files, colors, slices of a scan."""
