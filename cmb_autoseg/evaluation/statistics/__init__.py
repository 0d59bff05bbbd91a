"""How sure a figure is: intervals, paired tests, power, agreement of raters."""
