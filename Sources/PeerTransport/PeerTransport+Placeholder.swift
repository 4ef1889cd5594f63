/// Placeholder until the first file of `PeerTransport` lands.
