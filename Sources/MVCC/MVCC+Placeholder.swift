/// Placeholder until the first file of `MVCC` lands.
