/// Placeholder until the first file of `Scheduler` lands.
