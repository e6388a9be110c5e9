"""What was found about finished runs, for people: report.html, and report.md with its pictures beside it."""
