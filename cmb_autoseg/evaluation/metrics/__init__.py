"""Every figure of a report, group by group, as a function of how often each case counts."""
