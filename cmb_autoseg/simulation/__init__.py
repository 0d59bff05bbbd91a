"""Simulated cohorts: people, what is in their heads, and the scans that a scanner would make of them.

`anatomy` builds a head, `contents` puts microbleeds and their mimics into it, `acquisition` scans it,
`derived` computes SWI and QSM; `person` joins them, `cohort` writes people by the `layouts` of real
cohorts, and `patches` draws training patches without files. All but the readers and writers of files
need torch and numpy only. `protocols` holds names and numbers only, so that commands can list them
without importing torch.
"""
