"""Remote tiers on real servers, on loopback; no mount, no root."""
