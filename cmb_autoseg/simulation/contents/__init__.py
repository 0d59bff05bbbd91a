"""What a head holds besides tissue: microbleeds and what looks like them; and what of it can be seen."""
