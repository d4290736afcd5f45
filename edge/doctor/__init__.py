"""What this machine has and what it lacks, each line ok or what to do."""
