/// Placeholder until the first file of `HTTP2` lands.
