"""Webhooks: signed calls of URLs that users choose, none of which reaches a network of ours."""
