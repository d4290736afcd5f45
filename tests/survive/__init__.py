"""What the program must survive: kills, damaged files, full disks, days of bad clients. Run by hand, with counts."""
