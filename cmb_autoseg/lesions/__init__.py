"""What a lesion is: connected components of a mask, and the table that lists them."""
