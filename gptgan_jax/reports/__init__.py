"""Reports on finished runs for people: report.html, and report.md with its pictures."""
