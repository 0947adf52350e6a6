//! Segment payload to shards and back: any k shards give any shard.
