"""Simulated cohorts: people, their susceptibility, and the scans a scanner would make of them.

`grids`, `anatomy`, `susceptibility` and `acquisition` need torch and numpy only. `template` reads
the MNI152 maps, `cohort` joins the steps, and `layouts` writes files as real cohorts name them.
`protocols` holds names and numbers only, so that commands can list them without importing torch.
"""
