"""What an evaluation is read in: tables, figures, pictures of cases, checklists and the page that holds them."""
