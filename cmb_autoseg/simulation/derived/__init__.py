"""Images computed from the complex signal: SWI, minimum intensity projection, QSM."""
